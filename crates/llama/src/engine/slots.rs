//! Who has which part of the cache: which slot a request gets, what it finds there, and what it can take over from others. Pure.

use super::cache::Sequence;
use super::work::Work;
use crate::Token;

/// Fewer tokens than this are read again rather than waited for.
const WORTH_WAITING: usize = 32;

/// A place for one request at a time, and what its sequence in the cache holds.
pub(super) struct Slot {
    /// The tokens in the cache, from position 0. They stay when a request ends: the next may begin the same way.
    pub(super) held: Vec<Token>,
    pub(super) work: Option<Work>,
    /// When its last request ended, on a clock that only counts.
    pub(super) last_used: u64,
}

impl Slot {
    pub(super) fn new() -> Self {
        Self { held: Vec::new(), work: None, last_used: 0 }
    }

    /// The prompt that is still being read.
    fn reading(&self) -> Option<&[Token]> {
        self.work.as_ref().filter(|work| work.next.is_none()).map(|work| &*work.prompt)
    }
}

/// The free slot for a prompt: the one that holds most of its beginning, unless that would throw much else away; then the one
/// that nobody has used for longest. What that one lacks can be shared with it.
pub(super) fn choose(slots: &[Slot], prompt: &[Token]) -> Option<Sequence> {
    let free = || slots.iter().enumerate().filter(|(_, slot)| slot.work.is_none());
    let (best, common) =
        free().map(|(i, slot)| (i, common(&slot.held, prompt))).max_by_key(|&(i, common)| (common, usize::MAX - i))?;
    if common > 0 && common * 2 >= slots[best].held.len() {
        return Some(best);
    }
    free().min_by_key(|(_, slot)| (!slot.held.is_empty(), slot.last_used)).map(|(i, _)| i)
}

/// Where a slot that is reading can take over tokens that another holds: from whom, and up to which position.
pub(super) fn source(slots: &[Slot], reader: Sequence) -> Option<(Sequence, usize)> {
    let prompt = slots[reader].reading()?;
    let have = slots[reader].held.len();
    let others = slots.iter().enumerate().filter(|(i, _)| *i != reader);
    let held = others.map(|(i, slot)| (i, common(&slot.held, prompt).min(prompt.len() - 1)));
    held.filter(|&(_, end)| end > have).max_by_key(|&(_, end)| end)
}

/// Whether a slot had better wait: one that came before it is reading what it needs, too.
pub(super) fn had_better_wait(slots: &[Slot], reader: Sequence) -> bool {
    let (Some(prompt), Some(work)) = (slots[reader].reading(), &slots[reader].work) else { return false };
    let have = slots[reader].held.len();
    let will_have = |slot: &Slot| -> Option<usize> {
        let before = slot.work.as_ref().is_some_and(|other| other.number < work.number);
        let others = slot.reading().filter(|_| before)?;
        let end = common(others, prompt).min(prompt.len() - 1);
        (slot.held.len() < end).then_some(end)
    };
    slots.iter().filter_map(will_have).any(|end| end >= have + WORTH_WAITING)
}

/// How many tokens two sequences have in common from their beginning.
pub(super) fn common(a: &[Token], b: &[Token]) -> usize {
    const STRIDE: usize = 64;
    let most = a.len().min(b.len());
    let (a, b) = (&a[..most], &b[..most]);
    let whole = a.chunks_exact(STRIDE).zip(b.chunks_exact(STRIDE)).take_while(|(a, b)| a == b).count() * STRIDE;
    whole + a[whole..].iter().zip(&b[whole..]).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle(held: &[Token], last_used: u64) -> Slot {
        Slot { held: held.to_vec(), work: None, last_used }
    }

    fn reading(prompt: &[Token], have: usize, number: u64) -> Slot {
        Slot { held: prompt[..have].to_vec(), work: Some(Work::of_prompt(prompt, number)), last_used: 0 }
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
            assert_eq!(common(&long, &other), length);
        }
    }

    #[test]
    fn a_conversation_goes_on_in_the_slot_that_holds_it() {
        let slots = [idle(&[9, 9, 9], 1), idle(&[1, 2, 3, 4], 2), idle(&[], 0)];
        assert_eq!(choose(&slots, &[1, 2, 3, 4, 5]), Some(1));
    }

    #[test]
    fn another_conversation_with_the_same_system_message_leaves_the_first_in_its_place() {
        let first: Vec<Token> = counted(100);
        let second = [&first[..20], &[901, 902, 903]].concat();
        let slots = [idle(&first, 5), idle(&[7, 7], 3), idle(&[8, 8], 4)];
        assert_eq!(choose(&slots, &second), Some(1), "the slot that nobody has used for longest");
    }

    #[test]
    fn an_empty_slot_is_taken_before_one_that_holds_something() {
        let slots = [idle(&[7, 7], 1), idle(&[], 9)];
        assert_eq!(choose(&slots, &[1, 2]), Some(1));
    }

    #[test]
    fn nobody_gets_a_slot_that_is_at_work() {
        assert_eq!(choose(&[reading(&[1, 2, 3], 1, 0)], &[1, 2, 3]), None);
    }

    #[test]
    fn a_reader_takes_over_what_others_hold_but_reads_its_last_token_itself() {
        let prompt = counted(50);
        let slots = [idle(&prompt[..30], 0), reading(&prompt, 10, 1), idle(&prompt, 0)];
        assert_eq!(source(&slots, 1), Some((2, 49)));
        let slots = [idle(&prompt[..5], 0), reading(&prompt, 10, 1)];
        assert_eq!(source(&slots, 1), None);
    }

    #[test]
    fn of_those_who_read_the_same_the_first_reads_and_the_others_wait() {
        let shared = counted(100);
        let with = |own: Token| [&shared[..], &[own, own]].concat();
        let slots = [reading(&with(902), 0, 2), reading(&with(901), 10, 1), reading(&counted(20), 0, 3)];
        assert!(had_better_wait(&slots, 0));
        assert!(!had_better_wait(&slots, 1), "the first of them");
        assert!(!had_better_wait(&slots, 2), "so little is read again");
    }

    #[test]
    fn nobody_waits_for_a_reader_who_is_past_what_they_share() {
        let shared = counted(100);
        let with = |own: Token| [&shared[..], &[own, own]].concat();
        let slots = [reading(&with(901), 101, 1), reading(&with(902), 0, 2)];
        assert!(!had_better_wait(&slots, 1));
        assert_eq!(source(&slots, 1), Some((0, 100)));
    }
}
