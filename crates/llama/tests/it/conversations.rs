//! More conversations than slots: a conversation that lost its slot is found again in the prompt
//! cache, and answers are the same as without the cache.

#![expect(clippy::unwrap_used, reason = "a failure here fails the test")]

use std::path::{Path, PathBuf};

use crate::support::family::{self, Family};
use crate::support::{Whole, ask, call_with, long_text, open};
use futures_util::future::join_all;
use loggia_backend::ChatCall;
use loggia_llama::{CacheDisk, CacheScope, Llama, LlamaOptions};
use serde_json::{Value, json};

const MEMORY: u64 = 256 << 20;

/// An engine with one slot and a prompt cache of this size.
fn with_cache(memory: u64) -> Llama {
    open(|options| {
        options.parallel = 1;
        options.cache_memory = memory;
    })
}

/// A conversation: a long first message of its own, and the answers and questions after it.
struct Conversation(Vec<Value>);

impl Conversation {
    fn new(number: usize) -> Self {
        let text = long_text(&format!("Story {number}:"), 200);
        Self(vec![json!({"role": "user", "content": text})])
    }

    fn call(&self) -> ChatCall {
        call_with(json!(self.0), json!({"temperature": 0, "max_tokens": 8}))
    }

    async fn go_on(&mut self, llama: &Llama) -> Whole {
        let whole = ask(llama, self.call()).await;
        assert_eq!(whole.error, None);
        self.0
            .push(json!({"role": "assistant", "content": whole.text}));
        self.0.push(json!({"role": "user", "content": "And then?"}));
        whole
    }
}

/// Lets each conversation take two turns, one after the other. Returns the second answers.
async fn two_turns(llama: &Llama, count: usize) -> Vec<Whole> {
    let mut all: Vec<_> = (0..count).map(Conversation::new).collect();
    for conversation in &mut all {
        conversation.go_on(llama).await;
    }
    let mut answers = Vec::new();
    for conversation in &mut all {
        answers.push(conversation.go_on(llama).await);
    }
    answers
}

#[tokio::test]
async fn a_conversation_whose_slot_was_taken_goes_on_from_what_was_read() {
    let (with, without) = (with_cache(MEMORY), with_cache(0));
    let (with, without) = (two_turns(&with, 4).await, two_turns(&without, 4).await);
    for (with, without) in with.iter().zip(&without) {
        assert_eq!(with.text, without.text);
        let read = with.usage().prompt_tokens - with.cached();
        assert!(read < 20, "{:?}", with.usage());
        assert!(without.cached() < 40, "{:?}", without.usage());
    }
}

#[tokio::test]
async fn conversations_at_the_same_time_are_not_mixed_up() {
    let llama = open(|options| {
        options.parallel = 2;
        options.cache_memory = MEMORY;
    });
    let mut all: Vec<_> = (0..6).map(Conversation::new).collect();
    let anew = with_cache(0);
    for turn in 0..3 {
        let answers = join_all(all.iter_mut().map(async |conversation| {
            let call = conversation.call();
            (call, conversation.go_on(&llama).await)
        }))
        .await;
        for (call, whole) in answers {
            assert_eq!(whole.text, ask(&anew, call).await.text, "turn {turn}");
            let read = whole.usage().prompt_tokens - whole.cached();
            assert!(turn == 0 || read < 20, "turn {turn}: {:?}", whole.usage());
        }
    }
}

#[tokio::test]
async fn a_beginning_of_another_conversation_is_restored_for_a_new_one() {
    let llama = with_cache(MEMORY);
    let system = json!({"role": "system", "content": long_text("You are brief.", 300)});
    let question = |text: &str| {
        let user = json!({"role": "user", "content": text});
        call_with(
            json!([system, user]),
            json!({"temperature": 0, "max_tokens": 4}),
        )
    };
    ask(&llama, question("Who?")).await;
    ask(&llama, Conversation::new(1).call()).await;
    let whole = ask(&llama, question("Where to?")).await;
    assert!(whole.cached() > 280, "{:?}", whole.usage());
    assert_eq!(
        whole.text,
        ask(&with_cache(0), question("Where to?")).await.text
    );
}

#[tokio::test]
async fn the_least_recently_used_conversations_make_room() {
    // A conversation of some 240 tokens takes 5.5 MB.
    let llama = with_cache(12 << 20);
    let answers = two_turns(&llama, 2).await;
    assert!(answers.iter().all(|whole| whole.cached() > 200));
    let mut all: Vec<_> = (10..15).map(Conversation::new).collect();
    for conversation in &mut all {
        conversation.go_on(&llama).await;
    }
    // The slot has the last conversation, and the cache the two before it.
    let mut cached = Vec::new();
    for conversation in all[2..].iter_mut().rev() {
        cached.push(conversation.go_on(&llama).await.cached() > 200);
    }
    assert_eq!(cached, [true; 3]);
    assert!(all[0].go_on(&llama).await.cached() < 40);
}

#[tokio::test]
async fn a_request_with_a_seed_that_is_alone_reads_everything_and_loses_nothing() {
    let llama = with_cache(MEMORY);
    let mut conversation = Conversation::new(0);
    conversation.go_on(&llama).await;
    let seeded = || {
        let fields = json!({"temperature": 1, "seed": 7, "max_tokens": 8});
        call_with(json!(conversation.0), fields)
    };
    let answers = [ask(&llama, seeded()).await, ask(&llama, seeded()).await];
    assert_eq!(answers[0].text, answers[1].text);
    assert!(answers.iter().all(|whole| whole.cached() == 0));
    ask(&llama, Conversation::new(1).call()).await;
    assert!(conversation.go_on(&llama).await.cached() > 200);
}

#[tokio::test]
async fn with_a_scope_for_each_key_no_key_profits_from_the_prompts_of_another() {
    for (scope, shares) in [(CacheScope::Server, true), (CacheScope::Key, false)] {
        let llama = open(|options| {
            options.parallel = 2;
            options.cache_memory = MEMORY;
            options.cache_scope = scope;
        });
        let of = |key: Option<&str>, number: usize| {
            let mut call = Conversation::new(number).call();
            call.head.caller = key.map(Into::into);
            call
        };
        let alice = ask(&llama, of(Some("alice"), 1)).await;
        assert_eq!(alice.cached(), 0);
        // The conversation is in a slot.
        let bob = ask(&llama, of(Some("bob"), 1)).await;
        assert_eq!(bob.cached() > 0, shares, "{scope:?} {:?}", bob.usage());
        // The conversation is in the prompt cache.
        for number in 2..5 {
            ask(&llama, of(Some("alice"), number)).await;
        }
        let nobody = ask(&llama, of(None, 1)).await;
        assert_eq!(
            nobody.cached() > 200,
            shares,
            "{scope:?} {:?}",
            nobody.usage()
        );
        let again = ask(&llama, of(Some("alice"), 1)).await;
        assert!(again.cached() > 200, "{scope:?} {:?}", again.usage());
        // Both conversations at the same time.
        let calls = [of(Some("alice"), 9), of(Some("bob"), 9)];
        let answers = join_all(calls.map(|call| ask(&llama, call))).await;
        let cached = answers.iter().map(Whole::cached).max().unwrap();
        assert_eq!(cached > 100, shares, "{scope:?} {cached}");
        assert_eq!(answers[0].text, answers[1].text);
    }
}

/// An engine with one slot for a model of a family.
fn open_family(family: Family, memory: u64) -> Llama {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("family.gguf");
    std::fs::write(&path, family::gguf(family)).unwrap();
    open(|options: &mut LlamaOptions| {
        options.path = path;
        options.parallel = 1;
        options.cache_memory = memory;
    })
}

/// An engine with one slot and a prompt cache on disk.
fn on_disk(folder: &Path, change: impl FnOnce(&mut LlamaOptions)) -> Llama {
    open(|options| {
        options.parallel = 1;
        options.cache_disk = Some(CacheDisk {
            folder: folder.to_owned(),
            bytes: MEMORY,
        });
        change(options);
    })
}

/// The paths of the files with cached prompts.
fn files(folder: &Path) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(folder).unwrap();
    let files = folders.flat_map(|entry| std::fs::read_dir(entry.unwrap().path()).unwrap());
    files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "prompt"))
        .collect()
}

#[tokio::test]
async fn conversations_are_found_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut all: Vec<_> = (0..3).map(Conversation::new).collect();
    for memory in [0, MEMORY] {
        let llama = on_disk(folder.path(), |options| options.cache_memory = memory);
        for conversation in &mut all {
            conversation.go_on(&llama).await;
        }
    }
    let llama = on_disk(folder.path(), |_| ());
    let anew = with_cache(0);
    for conversation in &mut all {
        let call = conversation.call();
        let whole = conversation.go_on(&llama).await;
        let read = whole.usage().prompt_tokens - whole.cached();
        assert!(read < 20, "{:?}", whole.usage());
        assert_eq!(whole.text, ask(&anew, call).await.text);
    }
    assert_eq!(files(folder.path()).len(), 3, "one for each conversation");
}

#[tokio::test]
async fn a_file_is_restored_also_if_another_slot_has_the_first_words() {
    let folder = tempfile::tempdir().unwrap();
    let system = json!({"role": "system", "content": long_text("You are brief.", 40)});
    let mut all: Vec<_> = (0..3).map(Conversation::new).collect();
    for conversation in &mut all {
        conversation.0.insert(0, system.clone());
    }
    for turn in 0..2 {
        let llama = on_disk(folder.path(), |options| options.parallel = 2);
        for conversation in &mut all {
            let whole = conversation.go_on(&llama).await;
            let read = whole.usage().prompt_tokens - whole.cached();
            assert!(turn == 0 || read < 20, "{:?}", whole.usage());
        }
    }
}

#[tokio::test]
async fn what_is_not_whole_or_not_of_this_model_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let call = || Conversation::new(0).call();
    let usual = ask(&on_disk(folder.path(), |_| ()), call()).await;
    assert_eq!(usual.cached(), 0);
    let path = files(folder.path()).remove(0);
    let whole = std::fs::read(&path).unwrap();
    for at in [0, 50, 110, whole.len() / 2, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        let again = ask(&on_disk(folder.path(), |_| ()), call()).await;
        assert_eq!((&again.text, again.cached()), (&usual.text, 0), "{at}");
        assert_eq!(std::fs::read(&path).unwrap(), whole, "it is written again");
    }
    let slots = ask(
        &on_disk(folder.path(), |options| options.parallel = 2),
        call(),
    )
    .await;
    assert_eq!((&slots.text, slots.cached()), (&usual.text, 0));
    let context = ask(
        &on_disk(folder.path(), |options| options.context = Some(512)),
        call(),
    )
    .await;
    assert_eq!((&context.text, context.cached()), (&usual.text, 0));
    // The same file with another time may be another model.
    let copy = folder.path().join("copy.gguf");
    std::fs::copy(crate::support::model(), &copy).unwrap();
    let copied = ask(
        &on_disk(&folder.path().join("cache"), |options| {
            options.path = copy.clone();
        }),
        call(),
    )
    .await;
    assert_eq!(copied.cached(), 0);
    let file = std::fs::File::open(&copy).unwrap();
    file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(5))
        .unwrap();
    let copied = ask(
        &on_disk(&folder.path().join("cache"), |options| options.path = copy),
        call(),
    )
    .await;
    assert_eq!((&copied.text, copied.cached()), (&usual.text, 0));
    let again = ask(&on_disk(folder.path(), |_| ()), call()).await;
    assert!(again.cached() > 200, "{:?}", again.usage());
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_changes_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let answers = two_turns(&on_disk(&file, |_| ()), 2).await;
    let without = two_turns(&with_cache(0), 2).await;
    for (answer, without) in answers.iter().zip(&without) {
        assert_eq!(answer.text, without.text);
    }
}

#[tokio::test]
async fn what_an_idle_engine_read_is_written_before_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let llama = on_disk(folder.path(), |_| ());
    ask(&llama, Conversation::new(0).call()).await;
    let written = async {
        while files(folder.path()).is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_mins(1), written).await;
    assert!(waited.is_ok());
}

#[tokio::test]
async fn requests_that_wait_for_the_same_file_read_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let four = |options: &mut LlamaOptions| options.parallel = 4;
    let call = |number: usize| {
        let system = json!({"role": "system", "content": long_text("You are brief.", 400)});
        let user = json!({"role": "user", "content": format!("{number}?")});
        call_with(
            json!([system, user]),
            json!({"temperature": 0, "max_tokens": 4}),
        )
    };
    ask(&on_disk(folder.path(), four), call(9)).await;
    let llama = on_disk(folder.path(), four);
    let answers = join_all((0..4).map(|number| ask(&llama, call(number)))).await;
    let anew = with_cache(0);
    for (number, whole) in answers.iter().enumerate() {
        assert!(whole.cached() > 380, "{:?}", whole.usage());
        assert_eq!(whole.text, ask(&anew, call(number)).await.text);
    }
}

#[tokio::test]
async fn states_and_windows_survive_a_restart() {
    for family in family::ALL {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("family.gguf");
        std::fs::write(&path, family::gguf(family)).unwrap();
        let open = || {
            on_disk(&folder.path().join("cache"), |options| {
                options.path = path.clone();
            })
        };
        let fields = json!({"temperature": 0, "max_tokens": 24, "grammar": "root ::= [a-z]{24}"});
        let first = json!({"role": "user", "content": "one two three ".repeat(30)});
        let answer = ask(&open(), call_with(json!([first]), fields.clone())).await;
        let said = json!({"role": "assistant", "content": answer.text});
        let then = json!({"role": "user", "content": "and then"});
        let second = || call_with(json!([first, said, then]), fields.clone());
        let whole = ask(&open(), second()).await;
        assert_eq!(
            whole.cached(),
            answer.usage().total_tokens - 1,
            "{family:?} {:?}",
            whole.usage()
        );
        let anew = ask(&open_family(family, 0), second()).await;
        assert_eq!(whole.text, anew.text, "{family:?}");
    }
}

#[tokio::test]
async fn models_with_states_and_windows_go_on_too() {
    for family in family::ALL {
        let fields = json!({"temperature": 0, "max_tokens": 24, "grammar": "root ::= [a-z]{24}"});
        let call = |messages: &[Value]| call_with(json!(messages), fields.clone());
        let user = |text: &str| json!({"role": "user", "content": text});
        let first = user(&"one two three ".repeat(30));
        let llama = open_family(family, MEMORY);
        let answer = ask(&llama, call(std::slice::from_ref(&first))).await;
        let second = [
            first.clone(),
            json!({"role": "assistant", "content": answer.text}),
            user("and then"),
        ];
        for other in ["a fox", "a dog"] {
            ask(&llama, call(&[user(&other.repeat(60))])).await;
        }
        let whole = ask(&llama, call(&second)).await;
        assert_eq!(
            whole.cached(),
            answer.usage().total_tokens - 1,
            "{family:?} {:?}",
            whole.usage()
        );
        let anew = async |messages: &[Value]| ask(&open_family(family, 0), call(messages)).await;
        assert_eq!(whole.text, anew(&second).await.text, "{family:?}");
        // A restored state cannot be truncated where its windows or states are missing.
        let edited = [first.clone(), user("no")];
        let whole = ask(&llama, call(&edited)).await;
        assert_eq!(whole.text, anew(&edited).await.text, "{family:?}");
        ask(&llama, call(&[user("something else entirely")])).await;
        let third = [
            &second[..2],
            &[
                user("and then"),
                json!({"role": "assistant", "content": "x"}),
                user("?"),
            ],
        ]
        .concat();
        let whole = ask(&llama, call(&third)).await;
        assert_eq!(whole.text, anew(&third).await.text, "{family:?}");
    }
}
