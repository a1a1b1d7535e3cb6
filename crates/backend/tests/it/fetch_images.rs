//! Tests of fetching images by URL. The server is a [`RawEngine`], which sends prepared bytes.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::raw::{RawEngine, Step, answer};
use futures_core::future::BoxFuture;
use loggia_backend::fetch_images::{FetchImages, ImageKind, Limits, Resolve, is_public};
use loggia_backend::{
    Abilities, Ability, AbilitySet, Backend, BackendError, Call, ChatCall, Reply, ServedBy, Work,
};
use loggia_wire::openai::{ChatCompletionRequest, Model};
use proptest::prelude::*;
use serde_json::{Value, json};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\nand so on";
const PNG_URL: &str = "data:image/png;base64,iVBORw0KGgphbmQgc28gb24=";
const ADVICE: &str = "send the image itself, as a data: URL (data:image/png;base64,…)";

/// A backend that records the requests that it gets.
struct Inner {
    can: AbilitySet,
    asked: Mutex<Vec<Value>>,
}

impl Backend for Inner {
    fn abilities<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        Box::pin(async {
            Ok(Arc::new(Abilities {
                can: self.can,
                ..Abilities::default()
            }))
        })
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        self.asked
            .lock()
            .unwrap()
            .push(serde_json::to_value(chat_of(&call)).unwrap());
        let served_by = ServedBy {
            backend: "b".into(),
            model: "m".into(),
            node: None,
            fingerprint: "fp".into(),
            changed: Vec::new(),
            ignored: Vec::new(),
        };
        Box::pin(async {
            Ok(Reply {
                served_by,
                events: Box::pin(futures_util::stream::empty()),
            })
        })
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

fn chat_of(call: &Call) -> &ChatCompletionRequest {
    match &call.work {
        Work::Chat(request) => request,
        other => panic!("a chat, not {other:?}"),
    }
}

/// A resolver for host names that exist only in this test.
#[derive(Default)]
struct Names {
    addresses: HashMap<&'static str, Vec<&'static str>>,
    asked: Mutex<Vec<String>>,
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        self.asked.lock().unwrap().push(name.to_owned());
        let found = self
            .addresses
            .get(name)
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
        Box::pin(async move {
            Ok(found?
                .iter()
                .map(|address| address.parse().unwrap())
                .collect())
        })
    }
}

/// The wrapper [`FetchImages`] over a recording backend, with a resolver for the test's host names.
struct Setup {
    inner: Arc<Inner>,
    names: Arc<Names>,
    inline: FetchImages,
}

fn setup(limits: Limits, names: &[(&'static str, &[&'static str])]) -> Setup {
    setup_around(
        AbilitySet::OPENAI_ENGINE.without(Ability::RemoteImages),
        limits,
        names,
    )
}

fn setup_around(
    can: AbilitySet,
    limits: Limits,
    names: &[(&'static str, &[&'static str])],
) -> Setup {
    let inner = Arc::new(Inner {
        can,
        asked: Mutex::default(),
    });
    let addresses = names
        .iter()
        .map(|(name, addresses)| (*name, addresses.to_vec()))
        .collect();
    let names = Arc::new(Names {
        addresses,
        ..Names::default()
    });
    let inline = FetchImages::resolving(inner.clone(), limits, names.clone());
    Setup {
        inner,
        names,
        inline,
    }
}

impl Setup {
    /// Sends the images as parts of one message, and returns the URLs that the inner backend got.
    async fn ask(&self, urls: &[&str]) -> Result<Vec<String>, BackendError> {
        let parts: Vec<_> = urls
            .iter()
            .map(|url| json!({"type": "image_url", "image_url": {"url": url, "detail": "low"}}))
            .collect();
        let request = json!({"model": "m", "messages": [
            {"role": "system", "content": "a"}, {"role": "user", "content": parts}]});
        let request = Arc::new(serde_json::from_value(request).unwrap());
        let call = ChatCall::new("chatcmpl-1", request);
        self.inline.start(call.into()).await?;
        let asked = self.inner.asked.lock().unwrap().pop().unwrap();
        let parts = asked["messages"][1]["content"].as_array().unwrap().clone();
        assert!(
            parts
                .iter()
                .all(|part| part["image_url"]["detail"] == "low")
        );
        Ok(parts
            .iter()
            .map(|part| part["image_url"]["url"].as_str().unwrap().to_owned())
            .collect())
    }

    /// Sends the images, and returns `param` and message of the error.
    async fn refusal(&self, urls: &[&str]) -> (String, String) {
        let error = self.ask(urls).await.unwrap_err();
        let BackendError::InvalidRequest {
            message,
            param,
            code,
        } = error
        else {
            panic!("{error:?}")
        };
        assert_eq!(code.as_deref(), Some("invalid_image_url"));
        assert!(
            self.inner.asked.lock().unwrap().is_empty(),
            "the inner backend was asked all the same"
        );
        (param.unwrap(), message)
    }

    /// Sends one image, and returns the reason in the error's message.
    async fn reason(&self, url: &str) -> String {
        let (param, message) = self.refusal(&[url]).await;
        assert_eq!(param, "messages[1].content[0].image_url.url");
        let (_, reason) = message
            .split_once(" cannot be fetched: ")
            .unwrap_or_else(|| panic!("{message}"));
        reason.to_owned()
    }
}

fn port(engine: &RawEngine) -> u16 {
    engine.url.rsplit(':').next().unwrap().parse().unwrap()
}

/// Limits that allow loopback addresses and the ports of these engines.
fn allowing(engines: &[&RawEngine]) -> Limits {
    Limits {
        networks: vec!["127.0.0.1".parse().unwrap()],
        ports: engines
            .iter()
            .map(|engine| port(engine))
            .chain([80, 443])
            .collect(),
        ..Limits::default()
    }
}

fn image(bytes: &[u8]) -> Vec<Step> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n",
        bytes.len()
    );
    vec![Step::Send([head.as_bytes(), bytes].concat())]
}

fn redirect(to: &str) -> Vec<Step> {
    answer("302 Found", &format!("location: {to}\r\n"), "")
}

#[tokio::test]
async fn an_image_is_fetched_from_the_checked_address_and_sent_as_a_data_url() {
    let engine = RawEngine::start([image(PNG)]).await;
    let setup = setup(
        allowing(&[&engine]),
        &[("pictures.example", &["127.0.0.1"])],
    );
    let port = port(&engine);
    let urls = setup
        .ask(&[&format!("http://pictures.example:{port}/a.png?size=1#top")])
        .await
        .unwrap();
    assert_eq!(urls, [PNG_URL]);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        engine.requests(),
        [format!(
            "GET /a.png?size=1 HTTP/1.1\r\nhost: pictures.example:{port}\r\nuser-agent: loggia/{version}\r\naccept: image/*\r\n\
             connection: close\r\n\r\n"
        )]
    );
    assert_eq!(*setup.names.asked.lock().unwrap(), ["pictures.example"]);
}

#[tokio::test]
async fn an_image_is_fetched_to_count_the_tokens_of_its_prompt() {
    let engine = RawEngine::start([image(PNG)]).await;
    let setup = setup(allowing(&[&engine]), &[]);
    let part = json!({"type": "image_url", "image_url": {"url": format!("{}/a", engine.url)}});
    let request = json!({"model": "m", "messages": [{"role": "user", "content": [part]}]});
    let request = Arc::new(serde_json::from_value(request).unwrap());
    let call = ChatCall::new("chatcmpl-1", request);
    setup.inline.count_tokens(call).await.unwrap();
    let asked = setup.inner.asked.lock().unwrap().pop().unwrap();
    assert_eq!(
        asked["messages"][0]["content"][0]["image_url"]["url"],
        PNG_URL
    );
}

#[tokio::test]
async fn the_same_url_is_fetched_once_and_put_wherever_it_stood() {
    let engine = RawEngine::start([image(PNG)]).await;
    let setup = setup(allowing(&[&engine]), &[]);
    let url = format!("{}/a", engine.url);
    let urls = setup
        .ask(&[
            &url,
            "data:image/gif;base64,R0lGODlh",
            &format!("{url}#b"),
            &url,
        ])
        .await
        .unwrap();
    assert_eq!(
        urls,
        [PNG_URL, "data:image/gif;base64,R0lGODlh", PNG_URL, PNG_URL]
    );
    assert_eq!(engine.requests().len(), 1);
}

#[tokio::test]
async fn several_images_are_fetched_side_by_side_up_to_a_bound() {
    // Both engines respond only after a request, and the second one hangs. Neither may delay the
    // other.
    let (slow, quick) = (
        RawEngine::start([]).await,
        RawEngine::start([image(PNG)]).await,
    );
    let limits = Limits {
        time: Duration::from_millis(500),
        ..allowing(&[&slow, &quick])
    };
    let side_by_side = setup(limits.clone(), &[]);
    let urls = [slow.url.as_str(), quick.url.as_str()];
    side_by_side.refusal(&urls).await;
    assert_eq!((slow.requests().len(), quick.requests().len()), (1, 1));
    let one_by_one = setup(
        Limits {
            side_by_side: 1,
            ..limits
        },
        &[],
    );
    one_by_one.refusal(&urls).await;
    assert_eq!((slow.requests().len(), quick.requests().len()), (2, 1));
}

#[tokio::test]
async fn a_backend_that_fetches_by_itself_or_sees_nothing_gets_the_request_as_it_was() {
    for can in [
        AbilitySet::OPENAI_ENGINE,
        AbilitySet::OPENAI_ENGINE
            .without(Ability::Images)
            .without(Ability::RemoteImages),
    ] {
        let setup = setup_around(can, Limits::default(), &[]);
        let urls = ["http://127.0.0.1/a", "data:what", "ftp://a"];
        assert_eq!(setup.ask(&urls).await.unwrap(), urls);
        assert_eq!(setup.inline.abilities("m").await.unwrap().can, can);
    }
    let seeing = setup(Limits::default(), &[]);
    assert_eq!(
        seeing.inline.abilities("m").await.unwrap().can,
        AbilitySet::OPENAI_ENGINE
    );
}

#[tokio::test]
async fn nothing_is_fetched_from_an_address_that_is_not_public() {
    let setup = setup(Limits::default(), &[]);
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "10.0.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "169.254.169.254",
        "100.100.100.200",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "168.63.129.16",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::169.254.169.254]",
        "[64:ff9b:1::1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fec0::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "[2001:db8::1]",
        "[2001::1]",
        "[3fff::1]",
    ] {
        let reason = setup
            .reason(&format!("http://{host}/latest/meta-data"))
            .await;
        let expected = "its address is not public, and not in a network that this server allows";
        assert_eq!(reason, format!("{expected}; {ADVICE}"), "{host}");
    }
}

#[tokio::test]
async fn a_name_with_one_address_that_is_not_public_is_not_connected_to() {
    let engine = RawEngine::start([image(PNG)]).await;
    let limits = Limits {
        networks: Vec::new(),
        ..allowing(&[&engine])
    };
    let setup = setup(
        limits,
        &[
            ("inside.example", &["127.0.0.1"]),
            ("both.example", &["8.8.8.8", "127.0.0.1"]),
            ("none.example", &[]),
        ],
    );
    for host in ["inside.example", "both.example"] {
        let reason = setup
            .reason(&format!("http://{host}:{}/", port(&engine)))
            .await;
        assert!(reason.starts_with("its address is not public"), "{reason}");
    }
    for host in ["none.example", "unknown.example"] {
        let reason = setup.reason(&format!("http://{host}/")).await;
        assert_eq!(
            reason,
            format!("its host name cannot be resolved; {ADVICE}")
        );
    }
    assert_eq!(engine.connections(), 0);
}

#[tokio::test]
async fn redirects_are_followed_and_every_name_on_the_way_is_looked_up() {
    let engine = RawEngine::start([]).await;
    let at = port(&engine);
    let hops = RawEngine::start([
        redirect("/b"),
        redirect(&format!("//second.example:{at}/c")),
    ])
    .await;
    let setup = setup(
        allowing(&[&engine, &hops]),
        &[
            ("first.example", &["127.0.0.1"]),
            ("second.example", &["127.0.0.1"]),
        ],
    );
    engine.will(image(PNG));
    let urls = setup
        .ask(&[&format!("http://first.example:{}/a", port(&hops))])
        .await
        .unwrap();
    assert_eq!(urls, [PNG_URL]);
    assert_eq!(
        *setup.names.asked.lock().unwrap(),
        ["first.example", "first.example", "second.example"]
    );
    assert!(
        engine.requests()[0]
            .starts_with(&format!("GET /c HTTP/1.1\r\nhost: second.example:{at}\r\n"))
    );
}

#[tokio::test]
async fn a_redirect_to_what_may_not_be_fetched_is_not_followed() {
    let cases = [
        (
            "http://169.254.169.254/latest/meta-data",
            "its address is not public",
        ),
        ("http://inside.example/", "its address is not public"),
        ("http://[::ffff:10.0.0.1]/", "its address is not public"),
        ("http://127.0.0.1:1/", "its port is not allowed"),
        (
            "http://user:word@pictures.example/",
            "a URL must not contain a user name or password",
        ),
        (
            "file:///etc/passwd",
            "it redirected to a URL that is not http(s)",
        ),
        (
            "gopher://127.0.0.1/",
            "it redirected to a URL that is not http(s)",
        ),
    ];
    for (to, expected) in cases {
        let engine = RawEngine::start([redirect(to)]).await;
        let setup = setup(
            allowing(&[&engine]),
            &[("inside.example", &["192.168.1.1"])],
        );
        let reason = setup.reason(&engine.url).await;
        assert!(reason.starts_with(expected), "{to}: {reason}");
        assert_eq!(engine.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_name_that_changes_between_redirects_is_judged_again() {
    // The resolver returns another address for each connection to the same name. Each address is
    // checked.
    struct Rebinding(Mutex<Vec<&'static str>>);
    impl Resolve for Rebinding {
        fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
            let next = self.0.lock().unwrap().pop().unwrap();
            Box::pin(async move { Ok(vec![next.parse().unwrap()]) })
        }
    }
    let engine = RawEngine::start([redirect("/b")]).await;
    let mut setup = setup(allowing(&[&engine]), &[]);
    let resolver = Arc::new(Rebinding(Mutex::new(vec!["10.0.0.1", "127.0.0.1"])));
    setup.inline = FetchImages::resolving(setup.inner.clone(), allowing(&[&engine]), resolver);
    let reason = setup
        .reason(&format!("http://turncoat.example:{}/", port(&engine)))
        .await;
    assert!(reason.starts_with("its address is not public"), "{reason}");
}

#[tokio::test]
async fn a_loop_of_redirects_ends() {
    let engine = RawEngine::start((0..9).map(|_| redirect("/again"))).await;
    let setup = setup(allowing(&[&engine]), &[]);
    assert_eq!(
        setup.reason(&engine.url).await,
        format!("it redirected more than 3 times; {ADVICE}")
    );
    assert_eq!(engine.requests().len(), 4);
}

#[tokio::test]
async fn an_image_that_is_too_large_is_not_read_to_its_end() {
    let told = vec![
        Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n".to_vec()),
        Step::Hang,
    ];
    let untold = vec![
        Step::Send([b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &[0; 101]].concat()),
        Step::Hang,
    ];
    let engine = RawEngine::start([told, untold]).await;
    let setup = setup(
        Limits {
            bytes: 100,
            ..allowing(&[&engine])
        },
        &[],
    );
    for _ in 0..2 {
        assert_eq!(
            setup.reason(&engine.url).await,
            "it is larger than 100 bytes; send a smaller one"
        );
    }
}

#[tokio::test]
async fn images_that_are_too_large_together_are_refused_and_each_use_counts() {
    let engine = RawEngine::start([image(PNG), image(PNG)]).await;
    let total_bytes = 2 * PNG.len() + 5;
    let setup = setup(
        Limits {
            total_bytes,
            ..allowing(&[&engine])
        },
        &[],
    );
    let gif = "data:image/gif;base64,R0lGODlh";
    assert_eq!(
        setup.ask(&[&engine.url, &engine.url]).await.unwrap().len(),
        2
    );
    let (param, message) = setup.refusal(&[gif, &engine.url, &engine.url]).await;
    assert_eq!(param, "messages[1].content[1].image_url.url");
    assert!(
        message.contains(&format!("together are larger than {total_bytes} bytes")),
        "{message}"
    );
}

#[tokio::test]
async fn what_is_slow_is_given_up_with_a_reason() {
    let head = Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n".to_vec());
    let engine = RawEngine::start([vec![Step::Hang], vec![head, Step::Hang]]).await;
    let setup = setup(
        Limits {
            time: Duration::from_millis(50),
            ..allowing(&[&engine])
        },
        &[],
    );
    for _ in 0..2 {
        let reason = setup.reason(&engine.url).await;
        assert_eq!(
            reason,
            format!("fetching the images of the request took longer than 0.05 s; {ADVICE}")
        );
        engine.closed().await;
    }
}

#[tokio::test]
async fn what_is_no_image_whatever_it_is_called_is_refused() {
    let svg = answer("200 OK", "content-type: image/png\r\n", "<svg/>");
    let cut = vec![
        Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n\x89PNG\r\n".to_vec()),
        Step::Close,
    ];
    let noise = vec![Step::Send(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()), Step::Close];
    let long = vec![
        Step::Send([b"HTTP/1.1 200 OK\r\na: ".as_slice(), &[b'a'; 100 << 10]].concat()),
        Step::Hang,
    ];
    let engine = RawEngine::start([
        svg,
        answer("404 Not Found", "", "secret"),
        image(b"GIF89a"),
        cut,
        noise,
        long,
    ])
    .await;
    let setup = setup(
        Limits {
            kinds: vec![ImageKind::Png],
            ..allowing(&[&engine])
        },
        &[],
    );
    let wrong = "its response is not an image of a supported type (PNG, JPEG, GIF, WebP)";
    let cut_short = "its response is not HTTP, or is incomplete";
    for expected in [
        wrong,
        "it responded with status 404",
        wrong,
        cut_short,
        cut_short,
        cut_short,
    ] {
        assert_eq!(
            setup.reason(&engine.url).await,
            format!("{expected}; {ADVICE}")
        );
    }
}

#[tokio::test]
async fn an_error_tells_the_host_and_no_more_of_the_url() {
    let setup = setup(Limits::default(), &[]);
    let (_, message) = setup
        .refusal(&["http://name.example/private?token=secret"])
        .await;
    assert_eq!(
        message,
        format!(
            "the image at `name.example` cannot be fetched: its host name cannot be resolved; {ADVICE}"
        )
    );
    let (_, message) = setup.refusal(&["http://user:secret@name.example/"]).await;
    assert_eq!(
        message,
        format!("a URL must not contain a user name or password; {ADVICE}")
    );
}

#[tokio::test]
async fn what_is_no_url_or_no_base64_is_refused_before_anything_is_fetched() {
    let setup = setup(
        Limits {
            bytes: 5,
            fetches: 1,
            ..Limits::default()
        },
        &[],
    );
    let gif = "data:image/gif;base64,R0lGODlh";
    let small = "data:image/jpeg;base64,/9j/";
    let cases: [(&[&str], usize, &str); 6] = [
        (
            &[small, "data:image/bmp;base64,Qk0="],
            1,
            "the data: URL is not an image of a supported type",
        ),
        (
            &[small, "data:image/png;base64,A"],
            1,
            "the data: URL is not valid base64",
        ),
        (
            &[small, "iVBORw0KGgo="],
            1,
            "an image must be a data: URL in base64",
        ),
        (
            &["file:///etc/passwd"],
            0,
            "an image must be a data: URL in base64",
        ),
        (&[gif], 0, "it is larger than 5 bytes"),
        (
            &["http://a.example/1", "http://a.example/2"],
            1,
            "the request has more than 1 images to",
        ),
    ];
    for (urls, at, expected) in cases {
        let (param, message) = setup.refusal(urls).await;
        assert_eq!(param, format!("messages[1].content[{at}].image_url.url"));
        assert!(message.starts_with(expected), "{message}");
    }
    assert!(setup.names.asked.lock().unwrap().is_empty());
}

/// The IPv6 addresses that embed an IPv4 address.
fn in_ipv6(address: Ipv4Addr) -> [Ipv6Addr; 3] {
    let [a, b, c, d] = address.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    [
        address.to_ipv6_mapped(),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
    ]
}

/// Generates an address in this range. The number is the number of free bits.
fn of_range(range: (&'static str, u32)) -> impl Strategy<Value = Ipv4Addr> {
    let (first, host_bits) = range;
    let first = u32::from(first.parse::<Ipv4Addr>().unwrap());
    (0..1_u64 << host_bits)
        .prop_map(move |offset| Ipv4Addr::from(first + u32::try_from(offset).unwrap()))
}

/// The ranges that the documentation lists, with the number of free bits in each.
const NOT_PUBLIC: [(&str, u32); 12] = [
    ("0.0.0.0", 24),
    ("10.0.0.0", 24),
    ("100.64.0.0", 22),
    ("127.0.0.0", 24),
    ("169.254.0.0", 16),
    ("172.16.0.0", 20),
    ("192.0.2.0", 8),
    ("192.168.0.0", 16),
    ("198.51.100.0", 8),
    ("203.0.113.0", 8),
    ("224.0.0.0", 28),
    ("240.0.0.0", 28),
];

proptest! {
    #[test]
    fn no_form_of_an_address_that_is_not_public_is_public(
        address in proptest::sample::select(NOT_PUBLIC.as_slice()).prop_flat_map(of_range)
    ) {
        prop_assert!(!is_public(address.into()));
        for form in in_ipv6(address).into_iter().chain([Ipv6Addr::from(u128::from(u32::from(address)))]) {
            prop_assert!(!is_public(form.into()), "{form}");
        }
    }

    #[test]
    fn what_the_standard_library_calls_special_is_not_public(bits: u32) {
        let address = Ipv4Addr::from(bits);
        let special = address.is_private() || address.is_loopback() || address.is_link_local() || address.is_multicast()
            || address.is_broadcast() || address.is_documentation() || address.is_unspecified();
        prop_assert!(!(special && is_public(address.into())));
        for form in in_ipv6(address) {
            prop_assert_eq!(is_public(form.into()), is_public(address.into()), "{}", form);
        }
    }

    #[test]
    fn of_ipv6_only_global_unicast_is_public(bits: u128) {
        let address = Ipv6Addr::from(bits);
        let global = bits >> 125 == 1 || bits >> 32 == 0x0064_ff9b << 64;
        let special = address.is_loopback() || address.is_unspecified() || address.is_multicast()
            || address.is_unique_local() || address.is_unicast_link_local();
        prop_assert!(!is_public(address.into()) || (global && !special));
    }
}

#[test]
fn public_addresses_are_public() {
    for address in [
        "8.8.8.8",
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.255.255",
        "192.169.0.0",
        "223.255.255.255",
        "2606:4700::1",
        "2001:4860:4860::8888",
        "2a00:1450::1",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
    ] {
        assert!(is_public(address.parse().unwrap()), "{address}");
    }
}
