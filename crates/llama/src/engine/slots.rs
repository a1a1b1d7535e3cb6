//! Assigns the slots of the cache: which slot a request gets, which of its tokens are already
//! cached there, and what it can copy from other slots. Pure.
//!
//! A copy always copies the whole stream of a slot; [`min_copy`] is the number of tokens from which
//! that is faster than reading. A step computes adjacent slots in one pass, so a request gets a
//! slot beside the active ones. The previous content of that slot moves to the least recently used
//! slot.

use super::cache::Sequence;
use super::generation::Scope;
use super::task::Task;
use crate::Token;

/// A slot for one request at a time, and the cached tokens of its sequence.
pub(super) struct Slot {
    /// The cached tokens, from position 0. They stay after a request ends, because the next request
    /// may begin with the same tokens.
    pub(super) tokens: Vec<Token>,
    /// The scope of the requests that the tokens are from. Only requests of the same scope may
    /// reuse them.
    pub(super) scope: Scope,
    /// The minimum number of tokens that must stay if the sequence is truncated. It is above 0 if
    /// the state came from the prompt cache, and its sliding windows hold only the last tokens.
    pub(super) cut_from: usize,
    pub(super) task: Option<Task>,
    /// Whether the prompt cache on disk has been given the tokens.
    pub(super) is_written: bool,
    /// The value of the engine's clock when the last request of this slot ended.
    pub(super) last_used: u64,
}

/// The slot that a request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) slot: Sequence,
    /// The free slot to which the current content of `slot` moves, if it is worth keeping.
    pub(super) moved_to: Option<Sequence>,
}

impl Slot {
    pub(super) fn new() -> Self {
        Self {
            tokens: Vec::new(),
            scope: None,
            cut_from: 0,
            is_written: false,
            task: None,
            last_used: 0,
        }
    }

    /// Whether the slot can be reduced to its first `kept` tokens, in a model that `can_truncate`
    /// sequences or not.
    pub(super) fn can_keep(&self, kept: usize, can_truncate: bool) -> bool {
        kept == self.tokens.len() || (can_truncate && kept >= self.cut_from)
    }

    /// The request in this slot, if its prompt is still being read.
    fn reading(&self) -> Option<&Task> {
        self.task.as_ref().filter(|task| task.next.is_none())
    }
}

/// The minimum number of tokens for which a copy is used. On every model and machine that was
/// measured, so many tokens take longer to read than a stream takes to copy. Fewer tokens are read
/// again.
pub(super) fn min_copy(context: usize) -> usize {
    8 + context / 512
}

/// Chooses the slot for a prompt: the free slot with the longest common beginning, unless much of
/// its other content would be lost; otherwise the least recently used one. If other requests are
/// active and the model `can_truncate` sequences, it is a slot beside them.
pub(super) fn assign(
    slots: &[Slot],
    prompt: &[Token],
    scope: &Scope,
    min_copy: usize,
    can_truncate: bool,
) -> Option<Assignment> {
    let free = || {
        slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.task.is_none())
    };
    let age = |slot: &Slot| (!slot.tokens.is_empty(), slot.last_used);
    let oldest_except = |but: &[Option<Sequence>]| {
        free()
            .filter(|(i, _)| !but.contains(&Some(*i)))
            .min_by_key(|(_, slot)| age(slot))
            .map(|(i, _)| i)
    };
    let continued = continuation(slots, prompt, scope, can_truncate);
    let wanted = continued.or_else(|| oldest_except(&[]))?;
    let stay = Assignment {
        slot: wanted,
        moved_to: None,
    };
    let neighbours = |i: Sequence| {
        let at_work = |i: Option<Sequence>| {
            i.and_then(|i| slots.get(i))
                .is_some_and(|slot| slot.task.is_some())
        };
        usize::from(at_work(i.checked_sub(1))) + usize::from(at_work(i.checked_add(1)))
    };
    let beside = free().filter(|&(i, _)| neighbours(i) > 0);
    let best = beside.min_by_key(|&(i, slot)| (2 - neighbours(i), age(slot)));
    let Some((beside, slot)) = best.filter(|_| can_truncate && neighbours(wanted) == 0) else {
        return Some(stay);
    };
    if slot.tokens.len() < min_copy {
        return Some(Assignment {
            slot: beside,
            moved_to: None,
        });
    }
    // The slot with the cached beginning of this prompt is not overwritten: the beginning is copied
    // from there.
    let moved_to = oldest_except(&[Some(beside), continued]);
    Some(moved_to.map_or(stay, |_| Assignment {
        slot: beside,
        moved_to,
    }))
}

/// The free slot with the longest common beginning, if at least half of its content is common. For
/// a model that cannot truncate, all of the content must be common.
fn continuation(
    slots: &[Slot],
    prompt: &[Token],
    scope: &Scope,
    can_truncate: bool,
) -> Option<Sequence> {
    let free = slots
        .iter()
        .enumerate()
        .filter(|(_, slot)| slot.task.is_none() && slot.scope == *scope);
    let in_common = free
        .map(|(i, slot)| (i, common_prefix(&slot.tokens, prompt)))
        .filter(|&(i, common)| slots[i].can_keep(common, can_truncate));
    let (best, common) = in_common.max_by_key(|&(i, common)| (common, usize::MAX - i))?;
    (common > 0 && common * 2 >= slots[best].tokens.len()).then_some(best)
}

/// The slot from which the slot `reader` can copy `min_copy` tokens or more, and the position up to
/// which it can. Unless the model `can_truncate` sequences, all of the other slot's content must be
/// common.
pub(super) fn copy_source(
    slots: &[Slot],
    reader: Sequence,
    min_copy: usize,
    can_truncate: bool,
) -> Option<(Sequence, usize)> {
    // If the slot were copied, the copy would still be pending when the file has been read, and
    // nothing can be restored until it is made.
    let task = slots[reader].reading().filter(|task| !task.is_loading)?;
    let have = slots[reader].tokens.len();
    if task.prompt.unsplit(have) < have {
        return None;
    }
    let others = slots
        .iter()
        .enumerate()
        .filter(|(i, slot)| *i != reader && slot.scope == task.scope);
    let tokens = others.map(|(i, slot)| (i, shared_prefix(&slot.tokens, task)));
    let tokens = tokens.filter(|&(i, end)| slots[i].can_keep(end, can_truncate));
    tokens
        .filter(|&(_, end)| end >= have + min_copy)
        .max_by_key(|&(_, end)| end)
}

/// The slot that the request in `reader` should wait for, and up to which position: an earlier
/// request is reading `min_copy` or more tokens that both need.
pub(super) fn waits_for(
    slots: &[Slot],
    reader: Sequence,
    min_copy: usize,
) -> Option<(Sequence, usize)> {
    let task = slots[reader].reading()?;
    let have = slots[reader].tokens.len();
    let will_have = |(i, slot): (Sequence, &Slot)| {
        if slot.scope != task.scope {
            return None;
        }
        let number = slot
            .task
            .as_ref()
            .map(|other| other.number)
            .filter(|&number| number < task.number)?;
        let end = shared_prefix(
            &slot.reading().filter(|other| !other.is_paused())?.prompt,
            task,
        );
        (slot.tokens.len() < end).then_some((i, end, number))
    };
    let ends = slots
        .iter()
        .enumerate()
        .filter_map(will_have)
        .filter(|&(_, end, _)| end >= have + min_copy);
    // If there are several, the request waits for the earliest, because the others may be waiting
    // themselves.
    ends.max_by_key(|&(_, end, number)| (end, std::cmp::Reverse(number)))
        .map(|(i, end, _)| (i, end))
}

/// The number of cached tokens that a request can reuse: the common beginning, at most the
/// shareable part of the prompt, and no part of an image is split.
pub(super) fn shared_prefix(tokens: &[Token], task: &Task) -> usize {
    task.prompt
        .unsplit(common_prefix(tokens, &task.prompt).min(task.max_shared()))
}

/// The length of the common beginning of two sequences.
pub(super) fn common_prefix(a: &[Token], b: &[Token]) -> usize {
    const STRIDE: usize = 64;
    let most = a.len().min(b.len());
    let (a, b) = (&a[..most], &b[..most]);
    let whole = a
        .chunks_exact(STRIDE)
        .zip(b.chunks_exact(STRIDE))
        .take_while(|(a, b)| a == b)
        .count()
        * STRIDE;
    whole
        + a[whole..]
            .iter()
            .zip(&b[whole..])
            .take_while(|(a, b)| a == b)
            .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle(tokens: &[Token], last_used: u64) -> Slot {
        Slot {
            tokens: tokens.to_vec(),
            last_used,
            ..Slot::new()
        }
    }

    fn reading(prompt: &[Token], have: usize, number: u64) -> Slot {
        Slot {
            tokens: prompt[..have].to_vec(),
            task: Some(Task::of_prompt(prompt, number)),
            ..Slot::new()
        }
    }

    fn counted(length: Token) -> Vec<Token> {
        (0..length).collect()
    }

    #[test]
    fn common_counts_from_the_beginning_over_any_length() {
        let long = counted(300);
        for length in [0, 1, 63, 64, 65, 128, 299, 300] {
            let mut other = long[..length].to_vec();
            other.push(Token::MAX);
            assert_eq!(common_prefix(&long, &other), length);
        }
    }

    const MIN_COPY: usize = 16;

    fn at(slot: Sequence) -> Assignment {
        Assignment {
            slot,
            moved_to: None,
        }
    }

    #[test]
    fn a_conversation_goes_on_in_the_slot_that_holds_it() {
        let slots = [idle(&[9, 9, 9], 1), idle(&[1, 2, 3, 4], 2), idle(&[], 0)];
        assert_eq!(
            assign(&slots, &[1, 2, 3, 4, 5], &None, MIN_COPY, true),
            Some(at(1))
        );
    }

    #[test]
    fn another_conversation_with_the_same_system_message_leaves_the_first_in_its_place() {
        let first: Vec<Token> = counted(100);
        let second = [&first[..20], &[901, 902, 903]].concat();
        let slots = [idle(&first, 5), idle(&[7, 7], 3), idle(&[8, 8], 4)];
        assert_eq!(
            assign(&slots, &second, &None, MIN_COPY, true),
            Some(at(1)),
            "the slot that nobody has used for longest"
        );
    }

    #[test]
    fn an_empty_slot_is_taken_before_one_that_holds_something() {
        let slots = [idle(&[7, 7], 1), idle(&[], 9)];
        assert_eq!(assign(&slots, &[1, 2], &None, MIN_COPY, true), Some(at(1)));
    }

    #[test]
    fn nobody_gets_a_slot_that_is_at_work() {
        assert_eq!(
            assign(
                &[reading(&[1, 2, 3], 1, 0)],
                &[1, 2, 3],
                &None,
                MIN_COPY,
                true
            ),
            None
        );
    }

    #[test]
    fn a_newcomer_gets_a_place_beside_those_at_work_and_what_lay_there_moves() {
        let (a, b) = (counted(50), counted(60));
        let slots = [
            reading(&[1, 2, 3], 1, 0),
            idle(&a, 9),
            idle(&b, 8),
            idle(&[7, 7], 2),
        ];
        let prompt = [901, 902];
        assert_eq!(
            assign(&slots, &prompt, &None, MIN_COPY, true),
            Some(Assignment {
                slot: 1,
                moved_to: Some(3)
            })
        );
        assert_eq!(
            assign(&slots, &prompt, &None, MIN_COPY, false),
            Some(at(3)),
            "a model that cannot be cut cannot be moved"
        );
        let slots = [
            reading(&[1, 2, 3], 1, 0),
            idle(&a[..15], 9),
            idle(&b, 8),
            idle(&[7, 7], 2),
        ];
        assert_eq!(
            assign(&slots, &prompt, &None, MIN_COPY, true),
            Some(at(1)),
            "little is not worth moving"
        );
        let slots = [
            idle(&[], 0),
            idle(&a, 3),
            reading(&[1, 2, 3], 1, 0),
            idle(&[], 0),
        ];
        assert_eq!(
            assign(&slots, &prompt, &None, MIN_COPY, true),
            Some(at(3)),
            "an empty one is beside them already"
        );
        let slots = [
            reading(&[1], 1, 0),
            idle(&[], 0),
            idle(&a, 2),
            reading(&[2], 1, 1),
            idle(&[], 0),
        ];
        assert_eq!(
            assign(&slots, &prompt, &None, MIN_COPY, true),
            Some(at(1)),
            "each of three is beside one of them"
        );
    }

    #[test]
    fn a_conversation_that_goes_on_elsewhere_is_not_what_makes_room() {
        let (own, other) = (counted(50), vec![7; 40]);
        let prompt = [&own[..], &[901]].concat();
        let slots = [reading(&[1, 2, 3], 1, 0), idle(&other, 9), idle(&own, 1)];
        assert_eq!(
            assign(&slots, &prompt, &None, MIN_COPY, true),
            Some(at(2)),
            "nowhere else to put the other"
        );
        let slots = [
            reading(&[1, 2, 3], 1, 0),
            idle(&other, 9),
            idle(&own, 1),
            idle(&[8; 40], 5),
        ];
        assert_eq!(
            assign(&slots, &prompt, &None, MIN_COPY, true),
            Some(Assignment {
                slot: 1,
                moved_to: Some(3)
            })
        );
    }

    #[test]
    fn a_reader_takes_over_what_others_hold_but_reads_its_last_token_itself() {
        let prompt = counted(50);
        let slots = [
            idle(&prompt[..30], 0),
            reading(&prompt, 10, 1),
            idle(&prompt, 0),
        ];
        assert_eq!(copy_source(&slots, 1, MIN_COPY, true), Some((2, 49)));
        let slots = [idle(&prompt[..25], 0), reading(&prompt, 10, 1)];
        assert_eq!(
            copy_source(&slots, 1, MIN_COPY, true),
            None,
            "so few are read sooner than copied"
        );
    }

    #[test]
    fn a_request_that_waits_for_a_file_copies_nothing_before_it_is_read() {
        let prompt = counted(50);
        let mut slots = [idle(&prompt[..30], 0), reading(&prompt, 0, 1)];
        assert_eq!(copy_source(&slots, 1, MIN_COPY, true), Some((0, 30)));
        slots[1].task.as_mut().unwrap().is_loading = true;
        assert_eq!(copy_source(&slots, 1, MIN_COPY, true), None);
    }

    #[test]
    fn what_cannot_be_cut_is_gone_on_from_or_taken_over_as_a_whole() {
        let prompt = counted(50);
        let slots = [idle(&counted(60), 3), idle(&prompt[..30], 2), idle(&[], 1)];
        assert_eq!(assign(&slots, &prompt, &None, MIN_COPY, false), Some(at(1)));
        assert_eq!(
            assign(&slots[..1], &prompt, &None, MIN_COPY, false),
            Some(at(0)),
            "there is no other"
        );
        let slots = [
            idle(&counted(60), 0),
            reading(&prompt, 0, 1),
            idle(&prompt[..30], 0),
        ];
        assert_eq!(copy_source(&slots, 1, MIN_COPY, false), Some((2, 30)));
        assert_eq!(copy_source(&slots[..2], 1, MIN_COPY, false), None);
    }

    #[test]
    fn of_those_who_read_the_same_the_first_reads_and_the_others_wait() {
        let shared = counted(100);
        let with = |own: Token| [&shared[..], &[own, own]].concat();
        let slots = [
            reading(&with(902), 0, 2),
            reading(&with(901), 10, 1),
            reading(&counted(20), 0, 3),
        ];
        assert_eq!(waits_for(&slots, 0, MIN_COPY), Some((1, 100)));
        assert_eq!(
            waits_for(&slots, 1, MIN_COPY),
            None,
            "the first does not wait"
        );
        assert_eq!(
            waits_for(&slots, 2, MIN_COPY),
            Some((1, 19)),
            "for the first, and not for one that waits itself"
        );
        let slots = [reading(&with(901), 101, 1), reading(&with(902), 0, 2)];
        assert_eq!(waits_for(&slots, 1, MIN_COPY), None);
        assert_eq!(copy_source(&slots, 1, MIN_COPY, true), Some((0, 100)));
    }

    #[test]
    fn nothing_of_another_scope_is_gone_on_from_taken_over_or_waited_for() {
        let prompt = counted(100);
        let of = |name: &str, slot: Slot| Slot {
            scope: Some(name.into()),
            ..slot
        };
        let slots = [of("alice", idle(&prompt[..90], 9)), idle(&prompt, 8)];
        let bob = Some("bob".into());
        assert_eq!(
            assign(&slots, &prompt, &bob, MIN_COPY, true),
            Some(at(1)),
            "the oldest one"
        );
        let own = of("bob", idle(&prompt[..60], 1));
        let slots = [of("alice", idle(&prompt[..90], 9)), own];
        assert_eq!(assign(&slots, &prompt, &bob, MIN_COPY, true), Some(at(1)));
        let [alice, own] = slots;
        let mut reader = of("bob", Slot::new());
        let mut task = Task::of_prompt(&prompt, 2);
        task.scope = Some("bob".into());
        reader.task = Some(task);
        let slots = [alice, reader, own];
        assert_eq!(copy_source(&slots, 1, MIN_COPY, true), Some((2, 60)));
        let [alice, reader, _] = slots;
        let other = of("alice", self::reading(&prompt, 10, 1));
        let slots = [alice, reader, other];
        assert_eq!(copy_source(&slots, 1, MIN_COPY, true), None);
        assert_eq!(waits_for(&slots, 1, MIN_COPY), None);
    }

    #[test]
    fn what_has_only_its_last_window_is_gone_on_from_and_not_cut() {
        let prompt = counted(100);
        let windowed = Slot {
            cut_from: 80,
            ..idle(&prompt[..80], 1)
        };
        assert!(windowed.can_keep(80, true));
        assert!(!windowed.can_keep(79, true));
        let longer = Slot {
            tokens: prompt[..90].to_vec(),
            ..windowed
        };
        assert!(longer.can_keep(85, true) && !longer.can_keep(85, false));
    }
}
