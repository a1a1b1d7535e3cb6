//! Tests of a roster of several backends: which backend and model a name leads to, and how many
//! requests a lookup needs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_core::future::BoxFuture;
use loggia_backend::roster::{Found, Roster, RosterError, SurveyedAlias};
use loggia_backend::{
    Abilities, Audio, AudioCall, AudioReply, AudioTask, Backend, BackendError, Call, ChatCall,
    EmbeddingCall, Embeddings, NotDeleted, OllamaCall, OllamaReply, OllamaRequest, OllamaRoute,
    Reply, Rerank, RerankCall, Reranked, ServedBy,
};
use loggia_wire::Extra;
use loggia_wire::openai::Model;
use serde_json::json;

/// A backend that has these models, or does not answer.
struct Fake {
    name: &'static str,
    models: Mutex<Result<Vec<&'static str>, BackendError>>,
    asked: AtomicUsize,
    takes: Duration,
}

impl Fake {
    fn having(name: &'static str, models: &[&'static str]) -> Arc<Self> {
        Self::slow(name, models, Duration::ZERO)
    }

    fn slow(name: &'static str, models: &[&'static str], takes: Duration) -> Arc<Self> {
        let models = Mutex::new(Ok(models.to_vec()));
        Arc::new(Self {
            name,
            models,
            asked: AtomicUsize::new(0),
            takes,
        })
    }

    fn down(name: &'static str) -> Arc<Self> {
        let fake = Self::having(name, &[]);
        fake.goes_down();
        fake
    }

    fn goes_down(&self) {
        *self.models.lock().unwrap() = Err(unreachable_backend(self.name));
    }

    fn now_has(&self, models: &[&'static str]) {
        *self.models.lock().unwrap() = Ok(models.to_vec());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn unreachable_backend(name: &str) -> BackendError {
    BackendError::Unreachable {
        backend: name.to_owned(),
    }
}

impl Backend for Fake {
    fn abilities<'a>(
        &'a self,
        model: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        let length = Some(model.len() as u64);
        Box::pin(async move {
            Ok(Arc::new(Abilities {
                context_length: length,
                ..Abilities::default()
            }))
        })
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        let model = call.work.model().into();
        let served_by = ServedBy {
            backend: self.name.into(),
            model,
            node: None,
            fingerprint: "fp_0".into(),
            changed: Vec::new(),
            ignored: Vec::new(),
        };
        Box::pin(async move {
            self.models.lock().unwrap().clone()?;
            Ok(Reply {
                served_by,
                events: Box::pin(futures_util::stream::empty()),
            })
        })
    }

    fn embed(&self, call: EmbeddingCall) -> BoxFuture<'_, Result<Embeddings, BackendError>> {
        let model = call.work.model.as_str().into();
        let served_by = ServedBy {
            backend: self.name.into(),
            model,
            node: None,
            fingerprint: "fp_0".into(),
            changed: Vec::new(),
            ignored: Vec::new(),
        };
        let answers = self.models.lock().unwrap().clone().map(|_| Embeddings {
            served_by,
            vectors: vec![vec![1.0]],
            prompt_tokens: 1,
        });
        Box::pin(std::future::ready(answers))
    }

    fn delete_model<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), BackendError>> {
        let mut models = self.models.lock().unwrap();
        models.as_mut().unwrap().retain(|model| *model != id);
        Box::pin(std::future::ready(Ok(())))
    }

    /// Models whose names begin with `chat` only chat.
    fn rerank(&self, call: RerankCall) -> BoxFuture<'_, Result<Option<Reranked>, BackendError>> {
        let model = call.work.model;
        let reranked = || Reranked {
            served_by: ServedBy::new(self.name, &model),
            scores: vec![1.0],
            prompt_tokens: 1,
        };
        let answers = self.models.lock().unwrap().clone();
        let answer = answers.map(|_| (!model.starts_with("chat")).then(reranked));
        Box::pin(std::future::ready(answer))
    }

    /// Models whose names begin with `chat` only chat.
    fn audio(&self, call: AudioCall) -> BoxFuture<'_, Result<Option<AudioReply>, BackendError>> {
        let model = call.work.model;
        let reply = || AudioReply {
            served_by: ServedBy::new(self.name, &model),
            media_type: "audio/mpeg".to_owned(),
            length: None,
            pieces: Box::pin(futures_util::stream::empty()),
        };
        let answers = self.models.lock().unwrap().clone();
        let answer = answers.map(|_| (!model.starts_with("chat")).then(reply));
        Box::pin(std::future::ready(answer))
    }

    /// Only Ollama servers answer.
    fn ollama_api(
        &self,
        call: OllamaCall,
    ) -> BoxFuture<'_, Result<Option<OllamaReply>, BackendError>> {
        let model = call.work.model.unwrap_or_default();
        let reply = || OllamaReply {
            served_by: ServedBy::new(self.name, &model),
            media_type: "application/json".to_owned(),
            pieces: Box::pin(futures_util::stream::empty()),
        };
        let answers = self.models.lock().unwrap().clone();
        let answer = answers.map(|_| self.name.starts_with("ollama").then(reply));
        Box::pin(std::future::ready(answer))
    }

    fn is_called(&self, listed: &str, asked: &str) -> bool {
        self.name.starts_with("any-case") && listed.eq_ignore_ascii_case(asked)
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            tokio::time::sleep(self.takes).await;
            let models = self.models.lock().unwrap().clone()?;
            Ok(models
                .into_iter()
                .map(|id| Model::new(id, 1, self.name))
                .collect())
        })
    }
}

fn try_roster(backends: &[&Arc<Fake>], aliases: &[&str]) -> Result<Roster, RosterError> {
    let backends = backends
        .iter()
        .map(|&fake| (fake.name.into(), Arc::clone(fake) as Arc<dyn Backend>));
    Roster::new(
        backends,
        aliases.iter().map(|alias| alias.parse().unwrap()).collect(),
    )
}

fn roster(backends: &[&Arc<Fake>], aliases: &[&str]) -> Roster {
    try_roster(backends, aliases).unwrap()
}

/// Returns the backend and the model that a name leads to, as `NAME:model`.
async fn served(roster: &Roster, model: &str) -> Result<String, BackendError> {
    let request = serde_json::from_value(json!({"model": model, "messages": []})).unwrap();
    let call = ChatCall::new("chatcmpl-1", Arc::new(request));
    let served_by = roster.start(call.into()).await?.served_by;
    Ok(format!("{} {}", served_by.backend, served_by.model))
}

/// Ollama accepts a name in any case. An exact match takes precedence, whichever backend has it.
#[tokio::test]
async fn a_name_in_another_case_leads_to_a_backend_that_reads_names_so_where_nobody_has_it_as_asked()
 {
    let any = Fake::having("any-case", &["Coder:7b", "shared", "m"]);
    let exact = Fake::having("exact", &["SHARED", "Own", "M:latest"]);
    let roster = roster(&[&any, &exact], &["agent=CODER:7B", "x-*=*"]);
    for (name, leads_to) in [
        ("coder:7B", "any-case Coder:7b"),
        ("any-case/CODER:7b", "any-case Coder:7b"),
        ("agent", "any-case Coder:7b"),
        ("x-coder:7b", "any-case Coder:7b"),
        ("shared", "any-case shared"),
        ("SHARED", "exact SHARED"),
        ("Shared", "any-case shared"),
        ("M", "exact M:latest"),
    ] {
        assert_eq!(
            served(&roster, name).await.as_deref(),
            Ok(leads_to),
            "{name}"
        );
    }
    for name in ["own", "exact/shared", "AGENT"] {
        assert_eq!(served(&roster, name).await, not_found(name), "{name}");
    }
    assert_eq!(
        listed(&roster).await,
        [
            "Coder:7b", "shared", "m", "SHARED", "Own", "M:latest", "agent"
        ]
    );
    any.goes_down();
    assert_eq!(
        served(&roster, "CODER:7b").await,
        Err(unreachable_backend("any-case")),
        "it may be back"
    );
}

async fn listed(roster: &Roster) -> Vec<String> {
    roster
        .models()
        .await
        .unwrap()
        .into_iter()
        .map(|model| model.id)
        .collect()
}

fn not_found(model: &str) -> Result<String, BackendError> {
    Err(BackendError::model_not_found(model))
}

#[tokio::test]
async fn a_bare_name_leads_to_the_first_backend_that_has_it_and_name_slash_model_always_to_that_backend()
 {
    let one = Fake::having("one", &["a", "b"]);
    let two = Fake::having("two", &["b", "org/c"]);
    let roster = roster(&[&one, &two], &[]);
    for (name, leads_to) in [
        ("a", "one a"),
        ("b", "one b"),
        ("two/b", "two b"),
        ("org/c", "two org/c"),
        ("two/org/c", "two org/c"),
    ] {
        assert_eq!(
            served(&roster, name).await.as_deref(),
            Ok(leads_to),
            "{name}"
        );
    }
    assert_eq!(served(&roster, "none").await, not_found("none"));
    assert_eq!(served(&roster, "three/b").await, not_found("three/b"));
    assert_eq!(
        served(&roster, "one/org/c").await,
        not_found("one/org/c"),
        "an engine may take any name; it is not there"
    );
}

#[tokio::test]
async fn names_and_aliases_lead_embeddings_where_they_lead_chats() {
    let one = Fake::having("one", &["a"]);
    let two = Fake::having("two", &["nomic"]);
    let roster = roster(&[&one, &two], &["text-embedding-*=nomic"]);
    for (name, leads_to) in [
        ("text-embedding-3-small", "two nomic"),
        ("two/nomic", "two nomic"),
        ("a", "one a"),
    ] {
        let request =
            Arc::new(serde_json::from_value(json!({"model": name, "input": "a cat"})).unwrap());
        let made = roster
            .embed(EmbeddingCall::new("embd-1", request))
            .await
            .unwrap();
        assert_eq!(
            format!("{} {}", made.served_by.backend, made.served_by.model),
            leads_to,
            "{name}"
        );
    }
}

#[tokio::test]
async fn names_and_aliases_lead_counts_where_they_lead_chats() {
    let one = Fake::having("one", &["a"]);
    let two = Fake::having("two", &["b"]);
    let roster = roster(&[&one, &two], &["gpt-*=b"]);
    for (name, leads_to) in [("gpt-4o", "two b"), ("two/b", "two b"), ("a", "one a")] {
        let request = json!({"model": name, "messages": [{"role": "user", "content": "Hi"}]});
        let request = Arc::new(serde_json::from_value(request).unwrap());
        let count = roster
            .count_tokens(ChatCall::new("1", request))
            .await
            .unwrap();
        assert_eq!(
            format!("{} {}", count.served_by.backend, count.served_by.model),
            leads_to,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_name_without_a_tag_is_the_latest_where_no_backend_has_it_exactly() {
    let ollama = Fake::having("ollama", &["smollm2:latest", "qwen:latest", "qwen:1b"]);
    let gpu = Fake::having("gpu", &["qwen"]);
    let roster = roster(&[&ollama, &gpu], &[]);
    assert_eq!(
        served(&roster, "smollm2").await.as_deref(),
        Ok("ollama smollm2:latest")
    );
    assert_eq!(
        served(&roster, "ollama/smollm2").await.as_deref(),
        Ok("ollama smollm2:latest")
    );
    assert_eq!(served(&roster, "qwen").await.as_deref(), Ok("gpu qwen"));
    assert_eq!(
        served(&roster, "qwen:1b").await.as_deref(),
        Ok("ollama qwen:1b")
    );
}

#[tokio::test]
async fn aliases_lead_on_but_no_pattern_hides_a_model() {
    let ollama = Fake::having("ollama", &["smollm2:135m", "gpt-oss:20b"]);
    let gpu = Fake::having("gpu", &["big", "gpt-4o"]);
    let aliases = [
        "gpt-4o=best",
        "best=gpu/big",
        "gpt-*=smollm2:135m",
        "openai/*=*",
        "gpt-5*=nowhere",
    ];
    let roster = roster(&[&ollama, &gpu], &aliases);
    for (name, leads_to) in [
        ("gpt-4o", "gpu big"),
        ("gpu/gpt-4o", "gpu gpt-4o"),
        ("gpt-3.5-turbo", "ollama smollm2:135m"),
        ("gpt-oss:20b", "ollama gpt-oss:20b"),
        ("openai/gpt-4o", "gpu big"),
        ("openai/gpt-oss:20b", "ollama gpt-oss:20b"),
    ] {
        assert_eq!(
            served(&roster, name).await.as_deref(),
            Ok(leads_to),
            "{name}"
        );
    }
    assert_eq!(
        served(&roster, "gpt-5-mini").await,
        not_found("gpt-5-mini"),
        "the longest pattern decides, even to nowhere"
    );
    assert_eq!(
        roster.abilities("gpt-4o").await.unwrap().context_length,
        Some(3),
        "asked under the backend's own name"
    );
    let model = roster.model("gpt-4o").await.unwrap();
    assert_eq!(
        (model.id.as_str(), model.owned_by.as_str()),
        ("gpt-4o", "gpu")
    );
}

#[tokio::test]
async fn an_alias_with_several_targets_is_the_next_one_while_one_is_away() {
    let gpu = Fake::having("gpu", &["big", "same"]);
    let cloud = Fake::having("cloud", &["other", "same"]);
    let aliases = [
        "chat=gpu/big|cloud/other",
        "gone=gpu/missing|cloud/other",
        "numbers=gpu/same|cloud/same|cloud/other",
        "vectors=gpu/big|cloud/other",
        "nested=gpu/missing|chat",
    ];
    let roster = roster(&[&gpu, &cloud], &aliases);
    for name in ["chat", "nested"] {
        assert_eq!(served(&roster, name).await.as_deref(), Ok("gpu big"));
    }
    assert_eq!(served(&roster, "gone").await.as_deref(), Ok("cloud other"));
    let abilities = roster.abilities("chat").await.unwrap();
    assert_eq!(abilities.context_length, Some(3), "the shorter one");
    // The list of this backend is not requested again: the call itself fails.
    gpu.goes_down();
    for name in ["chat", "nested"] {
        assert_eq!(
            served(&roster, name).await.as_deref(),
            Ok("cloud other"),
            "{name}"
        );
    }
    cloud.goes_down();
    let away = served(&roster, "chat").await;
    assert_eq!(away, Err(unreachable_backend("gpu")), "the first error");
    let embed = async |name: &str| {
        let request = serde_json::from_value(json!({"model": name, "input": "x"})).unwrap();
        let call = EmbeddingCall::new("1", Arc::new(request));
        let served_by = roster.embed(call).await.map(|made| made.served_by);
        served_by.map(|by| format!("{} {}", by.backend, by.model))
    };
    let (model, away) = ("cloud same", Err(unreachable_backend("gpu")));
    cloud.now_has(&["other", "same"]);
    assert_eq!(embed("numbers").await.as_deref(), Ok(model));
    assert_eq!(
        embed("vectors").await,
        away,
        "another model's vectors differ"
    );
}

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Chat,
    Count,
    Rerank,
    Audio,
}

/// Returns the backend and the model that do the work, `None` if those that answer do not do it.
async fn worked(roster: &Roster, kind: Kind, model: &str) -> Result<Option<String>, BackendError> {
    let chat = json!({"model": model, "messages": [{"role": "user", "content": "Hi"}]});
    let chat = ChatCall::new("1", Arc::new(serde_json::from_value(chat).unwrap()));
    let model = model.to_owned();
    let served_by = match kind {
        Kind::Chat => Some(roster.start(chat.into()).await?.served_by),
        Kind::Count => Some(roster.count_tokens(chat).await?.served_by),
        Kind::Rerank => {
            let work = Rerank {
                model,
                query: "x".to_owned(),
                documents: vec!["y".to_owned()],
            };
            let reranked = roster.rerank(RerankCall::new("1", work)).await?;
            reranked.map(|reranked| reranked.served_by)
        }
        Kind::Audio => {
            let task = AudioTask::Speak(Extra::default());
            let reply = roster
                .audio(AudioCall::new("1", Audio { model, task }))
                .await?;
            reply.map(|reply| reply.served_by)
        }
    };
    Ok(served_by.map(|by| format!("{} {}", by.backend, by.model)))
}

#[tokio::test]
async fn every_kind_of_work_chooses_among_the_targets_of_an_alias() {
    for kind in [Kind::Chat, Kind::Count, Kind::Rerank, Kind::Audio] {
        let (gpu, cloud) = (
            Fake::having("gpu", &["big"]),
            Fake::having("cloud", &["other"]),
        );
        let aliases = ["name=gpu/big|cloud/other", "parts=gpu/big@1|cloud/other@3"];
        let roster = roster(&[&gpu, &cloud], &aliases);
        let by = |served: &str| Ok(Some(served.to_owned()));
        assert_eq!(
            worked(&roster, kind, "name").await,
            by("gpu big"),
            "{kind:?}"
        );
        let mut of_gpu = 0;
        for _ in 0..1000 {
            let is_gpu = worked(&roster, kind, "parts").await == by("gpu big");
            of_gpu += usize::from(is_gpu);
        }
        if kind == Kind::Count {
            // A prompt has the same number of tokens each time.
            assert_eq!(of_gpu, 0);
        } else {
            assert!((210..=290).contains(&of_gpu), "{kind:?}: {of_gpu}");
        }
        // The lists are not requested again: the calls themselves fail.
        gpu.goes_down();
        for name in ["name", "parts"] {
            let served = worked(&roster, kind, name).await;
            assert_eq!(served, by("cloud other"), "{kind:?}");
        }
        cloud.goes_down();
        let away = Err(unreachable_backend("gpu"));
        assert_eq!(worked(&roster, kind, "name").await, away, "{kind:?}");
    }
}

#[tokio::test]
async fn a_model_that_does_not_do_the_work_leaves_it_to_the_next() {
    for kind in [Kind::Rerank, Kind::Audio] {
        let one = Fake::having("one", &["chat", "other"]);
        let two = Fake::having("two", &["able", "chat"]);
        let aliases = [
            "first=one/chat|two/able",
            "last=two/able|one/chat",
            "none=one/chat|two/chat",
        ];
        let roster = roster(&[&one, &two], &aliases);
        let by = |served: &str| Ok(Some(served.to_owned()));
        assert_eq!(worked(&roster, kind, "first").await, by("two able"));
        assert_eq!(worked(&roster, kind, "last").await, by("two able"));
        assert_eq!(worked(&roster, kind, "none").await, Ok(None));
        // The API lets a chat model hear, and compares embeddings.
        two.goes_down();
        assert_eq!(worked(&roster, kind, "last").await, Ok(None), "{kind:?}");
        one.goes_down();
        let away = Err(unreachable_backend("two"));
        assert_eq!(worked(&roster, kind, "last").await, away, "{kind:?}");
    }
}

#[tokio::test]
async fn shares_of_an_alias_divide_the_requests() {
    let (new, old) = (Fake::having("new", &["m"]), Fake::having("old", &["m"]));
    let roster = roster(&[&new, &old], &["chat=new/m@1|old/m@3"]);
    let mut of_new = 0;
    for _ in 0..1000 {
        of_new += usize::from(served(&roster, "chat").await.unwrap() == "new m");
    }
    assert!((210..=290).contains(&of_new), "{of_new}");
    new.goes_down();
    for _ in 0..100 {
        assert_eq!(served(&roster, "chat").await.as_deref(), Ok("old m"));
    }
}

#[tokio::test]
async fn the_list_holds_every_name_once_and_each_leads_where_it_says() {
    let ollama = Fake::having("ollama", &["a", "b"]);
    let gpu = Fake::having("gpu", &["b", "ollama/x"]);
    let roster = roster(
        &[&ollama, &gpu],
        &["a=gpu/b", "fast=b", "gone=nothing", "gpt-*=b"],
    );
    let models = roster.models().await.unwrap();
    let ids: Vec<&str> = models.iter().map(|model| model.id.as_str()).collect();
    assert_eq!(ids, ["ollama/a", "b", "gpu/b", "gpu/ollama/x", "a", "fast"]);
    assert_eq!(serde_json::to_value(&models[5]).unwrap()["alias_of"], "b");
    for (id, leads_to) in ids.iter().zip([
        "ollama a",
        "ollama b",
        "gpu b",
        "gpu ollama/x",
        "gpu b",
        "ollama b",
    ]) {
        assert_eq!(served(&roster, id).await.as_deref(), Ok(leads_to), "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_model_is_off_the_list_at_once_and_an_alias_is_not_followed() {
    let ollama = Fake::having("ollama", &["a:latest", "b"]);
    let gpu = Fake::having("gpu", &["b", "c"]);
    let roster = roster(&[&ollama, &gpu], &["fast=b", "gpt-*=c"]);
    assert_eq!(
        listed(&roster).await,
        ["a:latest", "b", "gpu/b", "c", "fast"]
    );
    for (alias, of) in [("fast", "b"), ("gpt-4o", "c")] {
        let why = NotDeleted::Alias { of: of.to_owned() };
        let refused = Err(BackendError::NotDeleted {
            model: alias.to_owned(),
            why,
        });
        assert_eq!(roster.delete_model(alias).await, refused);
    }
    assert_eq!(
        roster.delete_model("nope").await,
        Err(BackendError::model_not_found("nope"))
    );
    roster.delete_model("a").await.unwrap();
    assert_eq!(listed(&roster).await, ["b", "gpu/b", "c", "fast"]);
    roster.delete_model("gpu/b").await.unwrap();
    assert_eq!(listed(&roster).await, ["b", "c", "fast"]);
    roster.delete_model("b").await.unwrap();
    assert_eq!(listed(&roster).await, ["c"], "its alias leads nowhere now");
    assert_eq!(
        roster.delete_model("b").await,
        Err(BackendError::model_not_found("b"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_lookup_costs_no_call_and_what_is_known_is_renewed_behind_its_back() {
    let one = Fake::slow("one", &["a"], Duration::from_secs(3));
    let roster = roster(&[&one], &[]);
    for _ in 0..5 {
        assert_eq!(served(&roster, "a").await.as_deref(), Ok("one a"));
    }
    assert_eq!(one.asked(), 1);
    tokio::time::advance(Duration::from_secs(11)).await;
    let before = tokio::time::Instant::now();
    for _ in 0..5 {
        assert_eq!(served(&roster, "a").await.as_deref(), Ok("one a"));
    }
    assert_eq!(before.elapsed(), Duration::ZERO, "nobody waits");
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(one.asked(), 2, "one call, whoever asks");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_nobody_has_is_asked_about_again_but_at_most_once_a_second() {
    let one = Fake::having("one", &["a"]);
    let two = Fake::having("two", &["b"]);
    let roster = roster(&[&one, &two], &[]);
    for _ in 0..5 {
        assert_eq!(served(&roster, "new").await, not_found("new"));
    }
    assert_eq!(one.asked(), 1);
    two.now_has(&["b", "new"]);
    tokio::time::advance(Duration::from_millis(1100)).await;
    assert_eq!(
        served(&roster, "new").await.as_deref(),
        Ok("two new"),
        "just pulled"
    );
    assert_eq!((one.asked(), two.asked()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn many_at_once_share_one_call_and_backends_are_asked_side_by_side() {
    let one = Fake::slow("one", &["a"], Duration::from_secs(3));
    let two = Fake::slow("two", &["b"], Duration::from_secs(3));
    let roster = roster(&[&one, &two], &[]);
    let before = tokio::time::Instant::now();
    let all = futures_util::future::join_all((0..20).map(|_| served(&roster, "b"))).await;
    assert!(all.iter().all(|one| one.as_deref() == Ok("two b")));
    assert_eq!((one.asked(), two.asked()), (1, 1));
    assert_eq!(before.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_down_hides_its_models_and_nothing_else() {
    let one = Fake::having("one", &["a", "b"]);
    let two = Fake::having("two", &["b", "c"]);
    let roster = roster(&[&one, &two], &["pet*=c"]);
    assert_eq!(listed(&roster).await, ["a", "b", "two/b", "c"]);
    one.goes_down();
    tokio::time::advance(Duration::from_millis(1100)).await;
    assert_eq!(listed(&roster).await, ["b", "c"]);
    assert_eq!(served(&roster, "b").await.as_deref(), Ok("two b"));
    assert_eq!(served(&roster, "c").await.as_deref(), Ok("two c"));
    assert_eq!(served(&roster, "pet").await.as_deref(), Ok("two c"));
    assert_eq!(
        served(&roster, "a").await,
        Err(unreachable_backend("one")),
        "it had that"
    );
    assert_eq!(
        served(&roster, "d").await,
        Err(unreachable_backend("one")),
        "it might have that"
    );
    assert_eq!(
        served(&roster, "one/d").await,
        Err(unreachable_backend("one"))
    );
    assert_eq!(
        served(&roster, "two/d").await,
        not_found("two/d"),
        "whoever else is down"
    );
    one.now_has(&["a"]);
    assert_eq!(
        served(&roster, "a").await.as_deref(),
        Ok("one a"),
        "back at once, without a new list"
    );
    tokio::time::advance(Duration::from_millis(1100)).await;
    assert_eq!(
        served(&roster, "d").await,
        not_found("d"),
        "now everybody has answered"
    );
}

#[tokio::test(start_paused = true)]
async fn no_pattern_takes_over_the_models_of_a_backend_that_is_down() {
    let ollama = Fake::having("ollama", &["gpt-oss"]);
    let small = Fake::having("small", &["smollm2"]);
    let roster = roster(&[&ollama, &small], &["gpt-*=smollm2"]);
    assert_eq!(
        served(&roster, "gpt-oss").await.as_deref(),
        Ok("ollama gpt-oss")
    );
    ollama.goes_down();
    tokio::time::advance(Duration::from_millis(1100)).await;
    listed(&roster).await;
    assert_eq!(
        served(&roster, "gpt-oss").await,
        Err(unreachable_backend("ollama"))
    );
}

#[tokio::test]
async fn it_is_ready_as_soon_as_one_backend_is() {
    let (down, empty, up) = (
        Fake::down("down"),
        Fake::having("empty", &[]),
        Fake::having("up", &["a"]),
    );
    assert_eq!(roster(&[&down, &empty, &up], &[]).ready().await, Ok(()));
    assert!(roster(&[&down, &empty], &[]).ready().await.is_err());
    assert_eq!(roster(&[], &[]).ready().await, Err(BackendError::NoModels));
    assert_eq!(
        roster(&[&down], &[]).models().await,
        Err(unreachable_backend("down"))
    );
    assert_eq!(
        listed(&roster(&[&down, &empty], &[])).await,
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn a_survey_tells_who_shadows_whom() {
    let ollama = Fake::having("ollama", &["a", "b"]);
    let (gpu, down) = (Fake::having("gpu", &["b"]), Fake::down("down"));
    let survey = roster(
        &[&ollama, &gpu, &down],
        &["a=gpu/b", "gpt-*=b", "x/*=*", "gone=nothing", "two=gpu/b|b"],
    )
    .survey()
    .await;
    let found = |id: &str, shadowed_by: Option<&str>| Found {
        id: id.to_owned(),
        shadowed_by: shadowed_by.map(str::to_owned),
    };
    assert_eq!(
        survey.backends[0].models,
        Ok(vec![found("a", Some("gpu/b")), found("b", None)])
    );
    assert_eq!(
        survey.backends[1].models,
        Ok(vec![found("b", Some("ollama/b"))])
    );
    assert_eq!(survey.backends[2].models, Err(unreachable_backend("down")));
    let alias = |from: &str, to: &str, leads_to: Option<&str>| SurveyedAlias {
        from: from.to_owned(),
        to: to.to_owned(),
        leads_to: leads_to.map(str::to_owned),
    };
    assert_eq!(
        survey.aliases,
        [
            alias("a", "gpu/b", Some("gpu/b")),
            alias("gone", "nothing", None),
            alias("gpt-*", "b", Some("ollama/b")),
            alias("two", "gpu/b|b", Some("gpu/b | ollama/b")),
            alias("x/*", "*", None),
        ]
    );
}

#[test]
fn backends_have_names_that_can_stand_before_a_slash_and_only_one_has_each() {
    let fake = Fake::having("one", &[]);
    assert_eq!(
        try_roster(&[&fake, &fake], &[]).err(),
        Some(RosterError::Twice("one".to_owned()))
    );
    for name in ["", "a/b", "a b", "a=b", "*"] {
        let fake = Fake::having(name, &[]);
        assert_eq!(
            try_roster(&[&fake], &[]).err(),
            Some(RosterError::Name(name.to_owned()))
        );
    }
    assert!(matches!(
        try_roster(&[], &["a=b", "b=a"]),
        Err(RosterError::Alias(_))
    ));
}

#[tokio::test]
async fn ollamas_own_api_falls_back_among_the_ollama_servers_of_an_alias() {
    let vllm = Fake::having("vllm", &["big"]);
    let first = Fake::having("ollama-1", &["m"]);
    let second = Fake::having("ollama-2", &["m", "small"]);
    let aliases = [
        "chat=vllm/big|ollama-1/m|ollama-2/small",
        "embed=ollama-1/m|ollama-2/small|ollama-2/m",
    ];
    let roster = roster(&[&vllm, &first, &second], &aliases);
    let served = async |route, model: &str| {
        let work = OllamaRequest {
            route,
            model: Some(model.to_owned()),
            fields: Extra::default(),
        };
        let reply = roster.ollama_api(OllamaCall::new("1", work)).await?;
        let served_by = reply.map(|reply| reply.served_by);
        Ok::<_, BackendError>(served_by.map(|by| format!("{} {}", by.backend, by.model)))
    };
    let by = |served: &str| Ok(Some(served.to_owned()));
    assert_eq!(served(OllamaRoute::Chat, "chat").await, by("ollama-1 m"));
    assert_eq!(served(OllamaRoute::Embed, "embed").await, by("ollama-1 m"));
    first.goes_down();
    assert_eq!(
        served(OllamaRoute::Chat, "chat").await,
        by("ollama-2 small")
    );
    assert_eq!(
        served(OllamaRoute::Generate, "chat").await,
        by("ollama-2 small")
    );
    assert_eq!(
        served(OllamaRoute::Embed, "embed").await,
        by("ollama-2 m"),
        "another model's vectors cannot be compared"
    );
    second.goes_down();
    assert_eq!(
        served(OllamaRoute::Chat, "chat").await,
        Err(unreachable_backend("ollama-1"))
    );
}
