//! Tests of the pool, with engines whose end the test controls.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use loggia_backend::{Abilities, Call, NotDeleted, Reply};
use loggia_wire::openai::Model;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::entry::LONG_ENOUGH;
use super::waiting::PATIENCE;
use super::*;
use crate::backends::embedded::start::Started;
use crate::config::{CacheScope, CacheType};

/// An engine without a function.
struct Engine(Model);

impl Backend for Engine {
    fn abilities<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        Box::pin(std::future::ready(Ok(Arc::default())))
    }

    fn start(&self, _: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        Box::pin(std::future::ready(Err(BackendError::NoModels)))
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        Box::pin(std::future::ready(Ok(vec![self.0.clone()])))
    }
}

/// Reports the end of the process to the pool when its engine is dropped, as a closed pipe ends a
/// real process.
struct EndOnDrop(Option<oneshot::Sender<String>>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        let _ = self
            .0
            .take()
            .map(|ended| ended.send("ended as told".to_owned()));
    }
}

struct EndsWith(
    Engine,
    #[expect(dead_code, reason = "it is dropped")] EndOnDrop,
);

impl Backend for EndsWith {
    fn abilities<'a>(
        &'a self,
        model: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        self.0.abilities(model)
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        self.0.start(call)
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        self.0.models()
    }
}

/// Starts these engines. While `refusals` is not empty, it fails with the next message from there
/// instead.
#[derive(Default)]
struct TestEngines {
    started: Mutex<Vec<String>>,
    refusals: Mutex<VecDeque<String>>,
    /// The time that loading takes.
    takes: Duration,
    /// Ends the engine that was started last, without warning.
    crash: Mutex<Option<oneshot::Sender<()>>>,
}

impl Start for TestEngines {
    fn start(&self, spec: &ModelSpec) -> BoxFuture<'static, Result<Started, String>> {
        self.started.lock().unwrap().push(spec.name.clone());
        if let Some(why) = self.refusals.lock().unwrap().pop_front() {
            return Box::pin(std::future::ready(Err(why)));
        }
        let (told, ends) = oneshot::channel();
        let (crash, crashes) = oneshot::channel::<()>();
        *self.crash.lock().unwrap() = Some(crash);
        let card = Model::new(spec.name.as_str(), 0, "engines");
        let backend = Arc::new(EndsWith(Engine(card.clone()), EndOnDrop(Some(told))));
        let exited = async move {
            // A sender that was dropped without a message is not a crash.
            let all_of_a_sudden = async {
                if crashes.await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                how = ends => how.unwrap_or_default(),
                () = all_of_a_sudden => "signal: 9".to_owned(),
            }
        };
        let known = vec![(card, Arc::default())];
        let started = Started {
            backend,
            known,
            exited: exited.boxed(),
            kill: Arc::default(),
        };
        let takes = self.takes;
        Box::pin(async move {
            tokio::time::sleep(takes).await;
            Ok(started)
        })
    }
}

impl TestEngines {
    fn started(&self) -> Vec<String> {
        self.started.lock().unwrap().clone()
    }

    async fn crash(&self) {
        self.crash
            .lock()
            .unwrap()
            .take()
            .expect("an engine")
            .send(())
            .expect("it is watched");
        settle().await;
    }
}

/// Lets everything that is ready run. Only this advances the clock.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// A pool of models with the memory that each needs, and with a memory limit for all of them.
fn pool(
    engines: &Arc<TestEngines>,
    needs: &[(&str, u64)],
    memory: u64,
    keep_alive: Option<Duration>,
) -> Arc<Pool> {
    let spec = |&(name, _): &(&str, u64)| ModelSpec {
        name: name.to_owned(),
        file: format!("{name}.gguf").into(),
        adapter: None,
        mmproj: None,
        whisper: None,
        longest_recording: Duration::from_hours(2),
        recordings_waiting: 8,
        draft: None,
        context: None,
        parallel: 4,
        threads: None,
        gpu_layers: None,
        fast_forward: true,
        lookup: true,
        cache_memory: 0,
        cache_disk: None,
        cache_scope: CacheScope::Server,
        cache_type_k: CacheType::F16,
        cache_type_v: CacheType::F16,
    };
    let specs = needs.iter().map(spec).collect();
    let pool = Arc::new(Pool::new(
        specs,
        engines.clone(),
        Some(memory),
        KeepAlive(keep_alive),
        Handle::current(),
    ));
    for (at, &(_, bytes)) in needs.iter().enumerate() {
        pool.foresee(at, forecast(bytes, 0));
    }
    pool
}

pub(super) fn forecast(weights: u64, shared: u64) -> Forecast {
    Forecast {
        weights,
        shared,
        adapter: 0,
        projector: 0,
        draft: 0,
        prompt_cache: 0,
        cache: 0,
        compute: 0,
        context: 4096,
        trained_context: None,
        kind: loggia_llama::ModelKind::Text,
    }
}

#[tokio::test(start_paused = true)]
async fn what_fits_is_loaded_at_the_start_and_the_rest_when_it_is_asked_for() {
    let engines = Arc::new(TestEngines::default());
    let pool = pool(&engines, &[("a", 6), ("b", 6), ("c", 3)], 10, None);
    assert!(pool.ready().is_err(), "nothing has been loaded");
    pool.load_what_fits().await.expect("no refusal");
    assert_eq!(engines.started(), ["a", "c"]);
    assert!(pool.ready().is_ok());
    let lease = pool
        .acquire(1, None)
        .await
        .expect("there is room once the others are gone");
    assert_eq!(engines.started(), ["a", "c", "b"]);
    assert_eq!(lease.backend().models().await.expect("a model")[0].id, "b");
}

#[tokio::test(start_paused = true)]
async fn a_model_in_use_is_never_unloaded_and_one_that_waits_gets_its_room_after() {
    let engines = Arc::new(TestEngines::default());
    let pool = pool(&engines, &[("a", 6), ("b", 6)], 10, None);
    pool.load_what_fits().await.expect("no refusal");
    let in_use = pool.acquire(0, None).await.expect("loaded");
    let mut waiting = Box::pin(pool.acquire(1, None));
    assert!(
        tokio::time::timeout(Duration::from_secs(5), &mut waiting)
            .await
            .is_err()
    );
    assert_eq!(engines.started(), ["a"]);
    drop(in_use);
    waiting.await.expect("there is room");
    assert_eq!(engines.started(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_is_always_in_use_does_not_starve_another() {
    let engines = Arc::new(TestEngines::default());
    let pool = pool(&engines, &[("a", 6), ("b", 6)], 10, None);
    pool.load_what_fits().await.expect("no refusal");
    // Users of `a` that overlap, as long as the pool lets them in.
    let busy = Arc::clone(&pool);
    let users = tokio::spawn(async move {
        let mut lease = busy.acquire(0, None).await.expect("loaded");
        while let Ok(next) =
            tokio::time::timeout(Duration::from_secs(1), busy.acquire(0, None)).await
        {
            lease = next.expect("loaded");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        drop(lease);
    });
    settle().await;
    let began = Instant::now();
    pool.acquire(1, None).await.expect("its turn comes");
    assert!(
        began.elapsed() >= PATIENCE && began.elapsed() < 3 * PATIENCE,
        "{:?}",
        began.elapsed()
    );
    users.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn an_idle_model_is_unloaded_when_its_time_is_over_and_a_request_says_how_long() {
    let engines = Arc::new(TestEngines::default());
    let pool = pool(&engines, &[("a", 6)], 10, Some(Duration::from_mins(5)));
    pool.load_what_fits().await.expect("no refusal");
    tokio::spawn(Arc::clone(&pool).unload_the_idle());
    let is_loaded = || matches!(pool.lock()[0].state, State::Loaded(_));
    tokio::time::sleep(Duration::from_secs(299)).await;
    assert!(is_loaded());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(matches!(pool.lock()[0].state, State::Unloaded));
    assert!(
        pool.ready().is_ok() && pool.known(0).is_some(),
        "it can be loaded again, and is known"
    );
    drop(
        pool.acquire(0, Some(KeepAlive(None)))
            .await
            .expect("loaded again"),
    );
    tokio::time::sleep(Duration::from_hours(100)).await;
    assert!(is_loaded(), "for ever");
    drop(
        pool.acquire(0, Some(KeepAlive(Some(Duration::ZERO))))
            .await
            .expect("loaded"),
    );
    settle().await;
    assert!(!is_loaded(), "at once");
    assert_eq!(engines.started(), ["a", "a"]);
}

#[tokio::test(start_paused = true)]
async fn what_can_never_fit_is_refused_before_anything_is_started() {
    let engines = Arc::new(TestEngines::default());
    let pool = pool(&engines, &[("a", 6), ("huge", 3 << 30)], 1 << 30, None);
    let refused = pool.load_what_fits().await.expect_err("it cannot fit");
    assert!(
        refused.contains("`huge` needs 3.0 GiB") && refused.contains("1.0 GiB may be used"),
        "{refused}"
    );
    assert_eq!(engines.started(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_ends_is_started_anew_at_once_and_then_ever_later() {
    let engines = Arc::new(TestEngines::default());
    let pool = pool(&engines, &[("a", 6)], 10, None);
    pool.load_what_fits().await.expect("no refusal");
    engines.crash().await;
    assert_eq!(engines.started().len(), 2, "at once, without a request");
    engines.crash().await;
    assert_eq!(engines.started().len(), 2);
    let refused = pool.acquire(0, None).await.err().expect("it waits");
    assert!(
        matches!(refused, BackendError::Busy { retry_after: Some(after) } if after <= Duration::from_secs(1)),
        "{refused:?}"
    );
    assert!(
        pool.ready()
            .expect_err("down")
            .to_string()
            .contains("signal: 9")
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(engines.started().len(), 3);
    tokio::time::sleep(LONG_ENOUGH).await;
    engines.crash().await;
    assert_eq!(engines.started().len(), 4, "it had gone well for a while");
    pool.acquire(0, None).await.expect("loaded");
}

#[tokio::test(start_paused = true)]
async fn what_is_heard_of_an_old_process_does_not_touch_the_new_one() {
    let engines = Arc::new(TestEngines::default());
    let pool = pool(&engines, &[("a", 6)], 10, None);
    pool.load_what_fits().await.expect("no refusal");
    let (one, two) = (
        pool.acquire(0, None).await.expect("loaded"),
        pool.acquire(0, None).await.expect("loaded"),
    );
    one.is_lost();
    settle().await;
    two.is_lost();
    drop((one, two));
    settle().await;
    assert_eq!(engines.started().len(), 2, "one death, one new process");
    assert!(matches!(&pool.lock()[0].state, State::Loaded(loaded) if loaded.users == 0));
}

#[tokio::test(start_paused = true)]
async fn a_model_that_cannot_be_loaded_is_named_without_its_path_and_tried_again_later() {
    let engines = Arc::new(TestEngines::default());
    let pool = pool(&engines, &[("a", 6)], 10, None);
    pool.load_what_fits().await.expect("no refusal");
    engines
        .refusals
        .lock()
        .unwrap()
        .push_back("/secret/a.gguf is broken".to_owned());
    engines.crash().await;
    let refused = pool
        .acquire(0, None)
        .await
        .err()
        .expect("it cannot be loaded")
        .to_string();
    assert!(
        refused.contains("`a` cannot be loaded") && !refused.contains("secret"),
        "{refused}"
    );
    tokio::time::sleep(Duration::from_secs(3)).await;
    pool.acquire(0, None).await.expect("tried again");
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_waiting_leaves_the_others_alone() {
    let engines = Arc::new(TestEngines::default());
    let pool = pool(&engines, &[("a", 6), ("b", 6)], 10, None);
    pool.load_what_fits().await.expect("no refusal");
    let in_use = pool.acquire(0, None).await.expect("loaded");
    assert!(
        tokio::time::timeout(3 * PATIENCE, pool.acquire(1, None))
            .await
            .is_err(),
        "there is no room"
    );
    let another = tokio::time::timeout(Duration::from_secs(1), pool.acquire(0, None)).await;
    another.expect("nobody starves any more").expect("loaded");
    drop(in_use);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_is_not_kept_at_all_is_there_for_who_had_it_loaded() {
    let engines = Arc::new(TestEngines::default());
    let pool = pool(&engines, &[("a", 6)], 10, Some(Duration::ZERO));
    pool.load_what_fits().await.expect("no refusal");
    tokio::spawn(Arc::clone(&pool).unload_the_idle());
    settle().await;
    pool.learn(0).await.expect("it was loaded");
    drop(pool.acquire(0, None).await.expect("loaded"));
    assert_eq!(engines.started(), ["a"], "once");
    settle().await;
    assert!(
        matches!(pool.lock()[0].state, State::Unloaded),
        "and gone after its use"
    );
}

#[tokio::test(start_paused = true)]
async fn two_that_do_not_fit_together_take_turns_however_long_they_load() {
    let engines = Arc::new(TestEngines {
        takes: 2 * PATIENCE,
        ..TestEngines::default()
    });
    let pool = pool(&engines, &[("a", 6), ("b", 6)], 10, None);
    pool.load_what_fits().await.expect("no refusal");
    let use_once = |at: usize| {
        let pool = Arc::clone(&pool);
        async move {
            for _ in 0..3 {
                drop(pool.acquire(at, None).await.expect("its turn comes"));
                settle().await;
            }
        }
    };
    let both = async { tokio::join!(use_once(0), use_once(1)) };
    tokio::time::timeout(20 * PATIENCE, both)
        .await
        .expect("both are served");
}

/// Stands in for the removal of files, and counts the calls.
fn removing(removed: &Arc<Mutex<u32>>) -> impl FnOnce() -> Result<(), NotDeleted> + Send + 'static {
    let removed = Arc::clone(removed);
    move || {
        *removed.lock().unwrap() += 1;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_model_is_unloaded_and_no_request_gets_it() {
    let (engines, removed) = (Arc::new(TestEngines::default()), Arc::new(Mutex::new(0)));
    let pool = pool(&engines, &[("a", 6), ("b", 3)], 10, None);
    pool.load_what_fits().await.expect("no refusal");
    let unloaded = Arc::clone(&pool);
    let looks_and_removes = {
        let remove = removing(&removed);
        move || {
            assert!(
                matches!(unloaded.lock()[0].state, State::Unloaded),
                "its engine ends first"
            );
            remove()
        }
    };
    pool.delete(0, looks_and_removes)
        .await
        .expect("nobody uses it");
    assert_eq!(*removed.lock().unwrap(), 1);
    let gone = BackendError::model_not_found("a");
    assert_eq!(pool.find("a"), Err(gone.clone()));
    assert_eq!(pool.acquire(0, None).await.err(), Some(gone.clone()));
    assert_eq!(pool.delete(0, removing(&removed)).await, Err(gone));
    assert!(pool.ready().is_ok() && pool.find("b") == Ok(1));
    pool.delete(1, removing(&removed))
        .await
        .expect("nobody uses it");
    assert_eq!(pool.ready(), Err(BackendError::NoModels));
    assert_eq!((engines.started().len(), *removed.lock().unwrap()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_model_that_is_asked_for_is_not_deleted_and_goes_on() {
    let (engines, removed) = (
        Arc::new(TestEngines {
            takes: PATIENCE,
            ..TestEngines::default()
        }),
        Arc::new(Mutex::new(0)),
    );
    let pool = pool(&engines, &[("a", 6)], 10, None);
    let in_use = Err(BackendError::NotDeleted {
        model: "a".to_owned(),
        why: NotDeleted::InUse,
    });
    let loading = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.load_what_fits().await }
    });
    settle().await;
    assert_eq!(
        pool.delete(0, removing(&removed)).await,
        in_use,
        "it is being loaded"
    );
    loading.await.expect("no panic").expect("no refusal");
    let lease = pool.acquire(0, None).await.expect("loaded");
    assert_eq!(
        pool.delete(0, removing(&removed)).await,
        in_use,
        "it answers"
    );
    drop(lease);
    let kept = pool.delete(0, || Err(NotDeleted::FileStays)).await;
    assert_eq!(
        kept,
        Err(BackendError::NotDeleted {
            model: "a".to_owned(),
            why: NotDeleted::FileStays
        })
    );
    assert_eq!(*removed.lock().unwrap(), 0);
    pool.acquire(0, None).await.expect("it is loaded again");
}
