//! Prepares a template's source for minijinja: removes the few tags that only `transformers` knows.

/// Tags that surround the text that a model is trained on. They print nothing.
const TRAINING_TAGS: [&str; 2] = ["generation", "endgeneration"];

/// Removes the training tags from a template's source. Spaces around them are trimmed as before.
pub(super) fn prepare(source: &str) -> String {
    let mut prepared = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else {
            break;
        };
        let tag = &rest[start..start + length + 2];
        let inside = &tag[2..tag.len() - 2];
        prepared.push_str(&rest[..start]);
        if TRAINING_TAGS.contains(&inside.trim_matches(['-', '+', ' ', '\n', '\t'])) {
            // A comment with the same trim markers trims the same spaces.
            let before = if inside.starts_with('-') { "-" } else { "" };
            let after = if inside.ends_with('-') { "-" } else { "" };
            prepared.extend(["{#", before, " ", after, "#}"]);
        } else {
            prepared.push_str(tag);
        }
        rest = &rest[start + tag.len()..];
    }
    prepared.push_str(rest);
    prepared
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_tags_are_taken_out_and_others_stay() {
        assert_eq!(
            prepare("a {%- generation -%} b {% if x %}c{% endif %}"),
            "a {#- -#} b {% if x %}c{% endif %}"
        );
        assert_eq!(prepare("{% endgeneration %}"), "{# #}");
        assert_eq!(prepare("open {% if"), "open {% if");
    }
}
