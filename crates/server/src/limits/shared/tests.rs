//! Three servers that share limits by a real Valkey or Redis, which is stopped and started again.
//!
//! Without one on the machine these tests are skipped, unless `LOGGIA_TEST_VALKEY=required` is set.

use std::process::{Child, Command, Stdio};

use loggia_api::Caller;
use loggia_api::meter::{Entering, Entry, Meter, Metered, Tokens};
use loggia_wire::openai::CompletionUsage;

use super::*;
use crate::keys::holder::Holder;
use crate::keys::{KeyDigest, KeyRules, Keys};
use crate::limits::KeyLimits;
use crate::limits::meter::LimitMeter;

const SERVERS: u32 = 3;

/// Runs the server until the standard input ends, that is, until the process of the tests ends.
const UNTIL_THE_END: &str = r#"
"$1" --port 0 --unixsocket "$2/socket" --save "" --appendonly no --dir "$2" >"$2/log" 2>&1 &
server=$!
read -r _
kill -KILL $server
wait $server
"#;

/// A Valkey of its own, on a socket in a folder.
struct Valkey {
    folder: tempfile::TempDir,
    program: &'static str,
    process: Option<Child>,
}

impl Valkey {
    fn new() -> Option<Self> {
        let runs = |program: &&str| {
            let version = Command::new(program).arg("--version").output();
            version.is_ok_and(|version| version.status.success())
        };
        let Some(program) = ["valkey-server", "redis-server"].into_iter().find(runs) else {
            let is_required = std::env::var("LOGGIA_TEST_VALKEY").is_ok();
            assert!(!is_required, "no Valkey: install Debian's `redis-server`");
            eprintln!("no Valkey on this machine: skipped");
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        let mut valkey = Self {
            folder,
            program,
            process: None,
        };
        valkey.start();
        Some(valkey)
    }

    fn start(&mut self) {
        let mut shell = Command::new("sh");
        shell.args(["-c", UNTIL_THE_END, "sh", self.program]);
        shell.arg(self.folder.path()).stdin(Stdio::piped());
        self.process = Some(shell.spawn().expect("a shell"));
    }

    /// Kills the server. Its data is lost.
    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.stdin.take());
            process.wait().expect("a process");
        }
        let _ = std::fs::remove_file(self.folder.path().join("socket"));
    }

    fn url(&self) -> String {
        format!("unix://{}", self.folder.path().join("socket").display())
    }
}

impl Drop for Valkey {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One of the servers.
struct Server {
    meter: Arc<LimitMeter>,
    shared: Arc<SharedLimits>,
}

fn servers(valkey: &Valkey, limits: &KeyLimits) -> Vec<Server> {
    let server = |_| {
        let caller = Caller {
            name: "alice".into(),
            strictness: None,
            models: None,
            may_delete_models: false,
            may_have_priority: false,
        };
        let holder = Holder::from(caller).with_limits(limits.clone());
        let keys = Keys::of(KeyRules {
            keys: vec![(KeyDigest::of("key"), holder)],
            ..KeyRules::default()
        });
        let shared = SharedLimits::new(&valkey.url(), SERVERS).expect("an address");
        let shared = Arc::new(shared);
        tokio::spawn(Arc::clone(&shared).follow());
        let meter = Arc::new(LimitMeter::new(keys, Some(Arc::clone(&shared))));
        Server { meter, shared }
    };
    (0..SERVERS).map(server).collect()
}

async fn enter(meter: &LimitMeter, prompt: u64, answer: u64) -> Option<Arc<dyn Metered>> {
    let entering = meter.enter(&Entry {
        caller: Some("alice"),
        model: "m",
        tokens: &|| Tokens {
            prompt,
            answer: Some(answer),
        },
        report: None,
    });
    match entering {
        Entering::Unlimited => panic!("no limits"),
        Entering::Decided(decided) => decided.ok(),
        Entering::Pending(decision) => decision.await.ok().flatten(),
    }
}

/// Waits until all servers are connected, or until none is. Returns how long that took.
async fn all_are(servers: &[Server], connected: bool) -> Duration {
    let begun = Instant::now();
    let is_so = |server: &Server| server.shared.is_connected() == connected;
    while !servers.iter().all(is_so) {
        assert!(begun.elapsed() < Duration::from_secs(10), "{connected}");
        sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}

/// The requests and tokens that were admitted during a time.
#[derive(Clone, Copy, Debug, Default)]
struct LetIn {
    requests: u64,
    tokens: u64,
}

/// Requests at all servers, as fast as they go, each with 20 tokens of the prompt and 1 to 60 of an
/// answer for which 60 are reserved.
async fn hammer(servers: &[Server], time: Duration) -> LetIn {
    let clients = servers
        .iter()
        .flat_map(|server| (0..8).map(move |n| (server, n)));
    let clients = clients.map(|(server, n)| {
        let meter = Arc::clone(&server.meter);
        tokio::spawn(async move {
            let (end, mut let_in, mut answer) = (Instant::now() + time, LetIn::default(), n);
            while Instant::now() < end {
                let Some(held) = enter(&meter, 20, 60).await else {
                    sleep(Duration::from_millis(10)).await;
                    continue;
                };
                answer = (answer * 7 + 13) % 60 + 1;
                held.accepted();
                sleep(Duration::from_millis(1 + answer % 5)).await;
                held.used(&CompletionUsage::new(20, answer));
                let_in.requests += 1;
                let_in.tokens += 20 + answer;
            }
            let_in
        })
    });
    let mut sum = LetIn::default();
    for client in clients.collect::<Vec<_>>() {
        let one = client.await.expect("a client");
        sum.requests += one.requests;
        sum.tokens += one.tokens;
    }
    sum
}

/// The excess over a limit, as a part of the amount that it allows since `begun`.
fn beyond(let_in: u64, limit: u64, begun: Instant) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let (let_in, limit) = (let_in as f64, limit as f64);
    let allowed = limit + limit * begun.elapsed().as_secs_f64() / 60.0;
    (let_in - allowed) / allowed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_allow_together_what_one_would() {
    let Some(valkey) = Valkey::new() else { return };
    let (requests, tokens) = (600, 12_000);
    for limits in [
        KeyLimits {
            requests_per_minute: Some(requests),
            ..KeyLimits::default()
        },
        KeyLimits {
            tokens_per_minute: Some(tokens),
            ..KeyLimits::default()
        },
    ] {
        let mut client = Client::open(valkey.url()).expect("a client");
        let servers = servers(&valkey, &limits);
        all_are(&servers, true).await;
        let _: () = redis::cmd("DEL")
            .arg("loggia:limits:alice")
            .query(&mut client)
            .expect("deleted");
        let begun = Instant::now();
        let let_in = hammer(&servers, Duration::from_secs(3)).await;
        let (amount, limit) = match limits.requests_per_minute {
            Some(limit) => (let_in.requests, limit),
            None => (let_in.tokens, tokens),
        };
        let beyond = beyond(amount, limit, begun);
        println!(
            "Valkey alive: {let_in:?}, {:.2} % beyond the limit of {limit}",
            beyond * 100.0
        );
        assert!(beyond <= 0.01, "{beyond}");
        assert!(beyond > -0.2, "much less than the limit: {beyond}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_valkey_is_away_each_server_allows_its_share() {
    let Some(mut valkey) = Valkey::new() else {
        return;
    };
    let limit = 12_000;
    let limits = KeyLimits {
        tokens_per_minute: Some(limit),
        ..KeyLimits::default()
    };
    let servers = servers(&valkey, &limits);
    all_are(&servers, true).await;
    let begun = Instant::now();
    // The servers use half of the limit, in rounds that are too short to use all of it.
    let mut sum = 0;
    while sum < limit / 2 {
        sum += hammer(&servers, Duration::from_millis(5)).await.tokens;
    }
    assert!(sum < limit * 3 / 4, "used before Valkey is away: {sum}");
    let share = f64::from(u32::try_from(limit).expect("a small limit")) / f64::from(SERVERS);
    let check = |what: &str, sum| {
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let allowed = limit as f64 + limit as f64 * begun.elapsed().as_secs_f64() / 60.0;
        let shares = beyond(sum, limit, begun) * allowed / share;
        println!("Valkey {what}: {sum} tokens, {shares:.3} shares beyond the limit of {limit}");
        assert!(shares <= 1.0, "{what}: {shares}");
    };
    valkey.kill();
    sum += hammer(&servers, Duration::from_secs(2)).await.tokens;
    // A share is as empty as the whole was at Valkey's last answer. The whole then still had
    // reservations of up to 24 requests, of 80 tokens each.
    assert!(sum > limit * 4 / 5, "each server allows its share: {sum}");
    check("away", sum);
    all_are(&servers, false).await;

    // Valkey comes back without its data.
    valkey.start();
    let took = all_are(&servers, true).await;
    println!("Valkey back: used again after {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    sum += hammer(&servers, Duration::from_secs(2)).await.tokens;
    check("back", sum);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_at_once_are_counted_together_and_end_with_their_server() {
    let Some(valkey) = Valkey::new() else { return };
    let limits = KeyLimits {
        streams: Some(2),
        ..KeyLimits::default()
    };
    let servers = servers(&valkey, &limits);
    all_are(&servers, true).await;
    let one = enter(&servers[0].meter, 1, 1).await.expect("the first");
    let two = enter(&servers[1].meter, 1, 1).await.expect("the second");
    assert!(enter(&servers[2].meter, 1, 1).await.is_none());
    // A client that leaves, even while Valkey is asked, no longer counts as a running answer.
    for _ in 0..20 {
        let entering = enter(&servers[2].meter, 1, 1);
        let _ = timeout(Duration::from_micros(50), entering).await;
    }
    drop(one);
    let begun = Instant::now();
    let again = loop {
        if let Some(again) = enter(&servers[2].meter, 1, 1).await {
            break again;
        }
        assert!(begun.elapsed() < Duration::from_secs(2));
        sleep(Duration::from_millis(5)).await;
    };
    assert!(enter(&servers[0].meter, 1, 1).await.is_none());
    drop((two, again));
}

#[test]
fn an_address_is_not_shown() {
    let shared = SharedLimits::new("redis://me:secret@host", 3).expect("an address");
    assert!(!format!("{shared:?}").contains("secret"));
    let error = SharedLimits::new("http://secret", 3).expect_err("no address");
    assert!(!error.to_string().contains("secret"));
}
