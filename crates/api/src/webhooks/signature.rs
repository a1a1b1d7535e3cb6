//! Signs events as OpenAI does, by the scheme of Standard Webhooks: HMAC-SHA-256 of the id, the time
//! and the body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderValue};
use sha2::Sha256;

/// The beginning of every secret. The rest is the key in base64.
const PREFIX: &str = "whsec_";

/// The number of the secret's last characters that its hint shows.
const HINT_LENGTH: usize = 4;

/// Creates a secret.
pub(super) fn new_secret() -> String {
    format!("{PREFIX}{}", STANDARD.encode(rand::random::<[u8; 32]>()))
}

/// Returns the end of a secret, by which its owner recognizes it.
pub(super) fn hint(secret: &str) -> String {
    let last = secret.len().saturating_sub(HINT_LENGTH);
    format!("{PREFIX}...{}", secret.get(last..).unwrap_or_default())
}

/// Returns the headers of a delivery, signed with each of these secrets. `None` if one is damaged.
pub(super) fn headers(secrets: &[&str], id: &str, timestamp: u64, body: &str) -> Option<HeaderMap> {
    let signed = format!("{id}.{timestamp}.{body}");
    let signatures: Option<Vec<String>> = secrets
        .iter()
        .map(|secret| {
            let key = STANDARD.decode(secret.strip_prefix(PREFIX)?).ok()?;
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
            mac.update(signed.as_bytes());
            Some(format!(
                "v1,{}",
                STANDARD.encode(mac.finalize().into_bytes())
            ))
        })
        .collect();
    let mut headers = HeaderMap::new();
    headers.insert("webhook-id", HeaderValue::from_str(id).ok()?);
    headers.insert("webhook-timestamp", timestamp.into());
    let signatures = signatures?.join(" ");
    headers.insert(
        "webhook-signature",
        HeaderValue::from_str(&signatures).ok()?,
    );
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification of Standard Webhooks.
    #[test]
    fn a_signature_is_that_of_standard_webhooks() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let body = r#"{"test": 2432232314}"#;
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let headers = headers(&[secret], id, 1_614_265_330, body).expect("a good secret");
        assert_eq!(headers["webhook-id"], id);
        assert_eq!(headers["webhook-timestamp"], "1614265330");
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(headers["webhook-signature"], signature);
    }

    #[test]
    fn a_rotated_secret_signs_beside_the_new_one() {
        let (old, new) = (new_secret(), new_secret());
        let both = headers(&[&new, &old], "wh_1", 1, "{}").expect("good secrets");
        let alone = |secret: &str| {
            let headers = headers(&[secret], "wh_1", 1, "{}").expect("a good secret");
            headers["webhook-signature"]
                .to_str()
                .expect("ASCII")
                .to_owned()
        };
        let expected = format!("{} {}", alone(&new), alone(&old));
        assert_eq!(both["webhook-signature"], expected.as_str());
    }

    #[test]
    fn a_damaged_secret_signs_nothing() {
        for secret in ["", "whsec_?", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
            assert_eq!(headers(&[secret], "wh_1", 1, "{}"), None, "{secret}");
        }
    }
}
