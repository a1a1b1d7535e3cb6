//! `service_tier`: which requests a queue before a backend lets run first. Without a queue, the table
//! in `fields.rs` handles the field.

use loggia_backend::{Abilities, Ability, Priority};
use loggia_wire::openai::ChatCompletionRequest;

use crate::admit::fields::is_read;

/// The effect of a chat's `service_tier`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tier {
    /// The priority in the queue.
    pub(crate) priority: Priority,
    /// Whether Loggia writes the service tier into the answer. An engine that reads the field
    /// reports it itself.
    pub(crate) is_told: bool,
}

/// Reads the service tier of a chat. Removes it from the request if the queue honours it and the
/// engine would not read it. `may_have_priority` is whether the caller's requests may run before
/// those of others.
pub(crate) fn settle(
    chat: &mut ChatCompletionRequest,
    can: &Abilities,
    may_have_priority: bool,
) -> Tier {
    let is_passed = can.has(Ability::HostedFields) && is_read("service_tier", can.chat_fields());
    let wanted = match chat.service_tier.as_deref() {
        Some("flex") => Some(Priority::Flex),
        Some("priority" | "fast") if may_have_priority => Some(Priority::High),
        _ => None,
    };
    let honoured = wanted.filter(|_| can.has(Ability::ServiceTier));
    let is_told = chat.service_tier.is_some() && (honoured.is_some() || !is_passed);
    if honoured.is_some() && !is_passed {
        chat.service_tier = None;
    }
    Tier {
        priority: honoured.unwrap_or_default(),
        is_told,
    }
}

#[cfg(test)]
mod tests {
    use loggia_backend::AbilitySet;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_queue_honours_flex_of_all_and_priority_of_those_who_may() {
        use Priority::{Default, Flex, High};
        let plain = AbilitySet::default();
        let queue = plain.with(Ability::ServiceTier);
        let passed = queue.with(Ability::HostedFields);
        for (tier, can, may, priority, is_told, stays) in [
            ("flex", queue, false, Flex, true, false),
            ("priority", queue, true, High, true, false),
            ("fast", queue, true, High, true, false),
            ("priority", queue, false, Default, true, true),
            ("auto", queue, true, Default, true, true),
            ("scale", queue, true, Default, true, true),
            ("flex", plain, true, Default, true, true),
            ("flex", passed, true, Flex, true, true),
            ("auto", passed, true, Default, false, true),
        ] {
            let chat = json!({"model": "m", "messages": [], "service_tier": tier});
            let mut chat: ChatCompletionRequest = serde_json::from_value(chat).expect("a chat");
            let can = Abilities {
                can,
                ..Abilities::default()
            };
            let settled = settle(&mut chat, &can, may);
            assert_eq!(settled, Tier { priority, is_told }, "{tier} {can:?}");
            assert_eq!(chat.service_tier.is_some(), stays, "{tier} {can:?}");
        }
        let chat = json!({"model": "m", "messages": []});
        let mut chat: ChatCompletionRequest = serde_json::from_value(chat).expect("a chat");
        assert!(!settle(&mut chat, &Abilities::default(), true).is_told);
    }
}
