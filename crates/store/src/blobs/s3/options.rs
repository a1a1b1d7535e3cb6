//! Where a bucket is, and with which keys: [`S3Options`] and the environment variables of AWS's
//! own programs become a client.

use std::fmt;
use std::path::{Path as FilePath, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{BackoffConfig, RetryConfig};
use url::{Host, Url};

use super::error::BucketError;
use super::http::Connector;

/// How often, and for how long, a request that failed is repeated. A client waits meanwhile.
const RETRIES: usize = 3;
const RETRIED_FOR: Duration = Duration::from_secs(10);

/// `s3://BUCKET/PREFIX`: a bucket, and what the names of all objects in it begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Address {
    pub(super) bucket: String,
    /// Without slashes at its ends. May be empty.
    pub(super) prefix: String,
}

/// A text that is not `s3://BUCKET/PREFIX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not s3://BUCKET/PREFIX with letters, digits, `-`, `_` and `.`")]
pub struct NotS3Address;

impl FromStr for S3Address {
    type Err = NotS3Address;

    fn from_str(text: &str) -> Result<Self, NotS3Address> {
        let place = text.strip_prefix("s3://").ok_or(NotS3Address)?;
        let place = place.strip_suffix('/').unwrap_or(place);
        let is_plain = |one: char| one.is_ascii_alphanumeric() || "-_.".contains(one);
        let is_name = |part: &str| part.contains(|one| one != '.') && part.chars().all(is_plain);
        if !place.split('/').all(is_name) {
            return Err(NotS3Address);
        }
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }
}

impl fmt::Display for S3Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        Ok(())
    }
}

/// How the objects of a bucket are reached. The keys come from the environment.
#[derive(Clone, Debug)]
pub struct S3Options {
    /// The bucket and the prefix.
    pub address: S3Address,
    /// The URL of the service. `None` for the variables `AWS_ENDPOINT_URL_S3` and
    /// `AWS_ENDPOINT_URL`, and AWS without them.
    pub endpoint: Option<Url>,
    /// The region. `None` for the variables `AWS_REGION` and `AWS_DEFAULT_REGION`, and `us-east-1`
    /// without them.
    pub region: Option<String>,
    /// Whether the bucket is in the path of the URL. Otherwise it is in the host's name.
    pub path_style: bool,
    /// Whether the service may be reached without TLS. On the same machine it always may.
    pub plain_http: bool,
    /// The largest content.
    pub largest: u64,
}

impl S3Options {
    /// Options with the usual values.
    pub fn new(address: S3Address) -> Self {
        Self {
            address,
            endpoint: None,
            region: None,
            path_style: true,
            plain_http: false,
            largest: 0,
        }
    }

    /// Makes the client. Returns it with its connector, and the URL of the service if it is not AWS.
    pub(super) fn client(
        &self,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(AmazonS3, Connector, Option<Url>), BucketError> {
        let endpoint = self.endpoint(env)?;
        let first = |names: [&str; 2]| names.into_iter().find_map(env);
        let region = self.region.clone();
        let region = region.or_else(|| first(["AWS_REGION", "AWS_DEFAULT_REGION"]));
        let is_plain = endpoint.as_ref().is_some_and(|url| url.scheme() == "http");
        let connector = Connector {
            is_local: endpoint.as_ref().is_some_and(is_loopback),
        };
        let builder = AmazonS3Builder::new()
            .with_bucket_name(&self.address.bucket)
            .with_region(region.unwrap_or_else(|| "us-east-1".to_owned()))
            .with_virtual_hosted_style_request(!self.path_style)
            // TLS protects a content on its way as well as a signature of the content.
            .with_unsigned_payload(!is_plain)
            .with_retry(RetryConfig {
                backoff: BackoffConfig::default(),
                max_retries: RETRIES,
                retry_timeout: RETRIED_FOR,
            })
            .with_http_connector(connector);
        let builder = match &endpoint {
            Some(url) => builder.with_endpoint(self.bucket_endpoint(url)?),
            None => builder,
        };
        let builder = with_credentials(builder, endpoint.is_some(), env)?;
        let client = builder.build();
        let client = client.map_err(|error| BucketError::Setup(error.to_string()))?;
        Ok((client, connector, endpoint))
    }

    /// The URL of the service. `None` for AWS.
    fn endpoint(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Url>, BucketError> {
        let of_variable = |name: &str| {
            let url = env(name).map(|text| text.parse::<Url>());
            let wrong = |_| BucketError::Setup(format!("{name} is not a URL"));
            url.transpose().map_err(wrong)
        };
        let endpoint = match &self.endpoint {
            Some(url) => Some(url.clone()),
            None => match of_variable("AWS_ENDPOINT_URL_S3")? {
                Some(url) => Some(url),
                None => of_variable("AWS_ENDPOINT_URL")?,
            },
        };
        let Some(url) = &endpoint else {
            return Ok(None);
        };
        match url.scheme() {
            "https" => {}
            "http" if self.plain_http || is_loopback(url) => {}
            "http" => return Err(BucketError::PlainHttp),
            _ => {
                return Err(BucketError::Setup(
                    "the endpoint is not an http(s) URL".to_owned(),
                ));
            }
        }
        if !url.username().is_empty() || url.password().is_some() {
            let why = "the endpoint must not contain a user or a password";
            return Err(BucketError::Setup(why.to_owned()));
        }
        Ok(endpoint)
    }

    /// The URL of the service as the client takes it: with the bucket, if that is in the host's name.
    fn bucket_endpoint(&self, endpoint: &Url) -> Result<String, BucketError> {
        if self.path_style {
            return Ok(endpoint.as_str().trim_end_matches('/').to_owned());
        }
        let mut url = endpoint.clone();
        let host = url.host_str().unwrap_or_default();
        let host = format!("{}.{host}", self.address.bucket);
        let set = url.set_host(Some(&host));
        set.map_err(|_| BucketError::Setup(format!("{host} is not the name of a host")))?;
        Ok(url.as_str().trim_end_matches('/').to_owned())
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Variables by which AWS's services for containers and instances give keys.
const SERVICES: [(&str, AmazonS3ConfigKey); 3] = [
    (
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
    ),
    (
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        AmazonS3ConfigKey::ContainerCredentialsFullUri,
    ),
    (
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        AmazonS3ConfigKey::ContainerAuthorizationTokenFile,
    ),
];

/// Adds the keys: those of the environment, of a role with a token, of a file, or of a service for
/// containers and instances, in this order.
fn with_credentials(
    builder: AmazonS3Builder,
    has_endpoint: bool,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<AmazonS3Builder, BucketError> {
    let builder = match (env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY")) {
        (Some(id), Some(secret)) => {
            let keys = FileKeys {
                id,
                secret,
                token: env("AWS_SESSION_TOKEN"),
            };
            return Ok(keys.given_to(builder));
        }
        (Some(_), None) => return Err(BucketError::HalfOfKeys("AWS_SECRET_ACCESS_KEY")),
        (None, Some(_)) => return Err(BucketError::HalfOfKeys("AWS_ACCESS_KEY_ID")),
        (None, None) => builder,
    };
    let given = |builder: AmazonS3Builder, name: &str, key| match env(name) {
        Some(value) => builder.with_config(key, value),
        None => builder,
    };
    if env("AWS_WEB_IDENTITY_TOKEN_FILE").is_some() && env("AWS_ROLE_ARN").is_some() {
        let role = [
            (
                "AWS_WEB_IDENTITY_TOKEN_FILE",
                AmazonS3ConfigKey::WebIdentityTokenFile,
            ),
            ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn),
            ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName),
            ("AWS_ENDPOINT_URL_STS", AmazonS3ConfigKey::StsEndpoint),
        ];
        let with = |builder, (name, key)| given(builder, name, key);
        return Ok(role.into_iter().fold(builder, with));
    }
    if let Some(keys) = keys_of_file(env)? {
        return Ok(keys.given_to(builder));
    }
    let is_set = |name: &str| env(name).is_some();
    let services = SERVICES.map(|(name, _)| name);
    let is_off = env("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value == "true");
    if !services.into_iter().any(is_set) && (has_endpoint || is_off) {
        return Err(BucketError::NoKeys);
    }
    let with = |builder, (name, key)| given(builder, name, key);
    Ok(SERVICES.into_iter().fold(builder, with))
}

/// A pair of keys.
struct FileKeys {
    id: String,
    secret: String,
    token: Option<String>,
}

impl FileKeys {
    fn given_to(self, builder: AmazonS3Builder) -> AmazonS3Builder {
        let builder = builder
            .with_access_key_id(self.id)
            .with_secret_access_key(self.secret);
        match self.token {
            Some(token) => builder.with_token(token),
            None => builder,
        }
    }
}

/// The keys of the profile `AWS_PROFILE` in the file that AWS's own programs read:
/// `AWS_SHARED_CREDENTIALS_FILE`, or `.aws/credentials` in the home folder.
fn keys_of_file(env: &dyn Fn(&str) -> Option<String>) -> Result<Option<FileKeys>, BucketError> {
    let named = env("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
    let is_named = named.is_some();
    let usual = || Some(FilePath::new(&env("HOME")?).join(".aws/credentials"));
    let Some(path) = named.or_else(usual) else {
        return Ok(None);
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(_) if !is_named => return Ok(None),
        Err(error) => {
            let why = format!("the file of AWS_SHARED_CREDENTIALS_FILE cannot be read: {error}");
            return Err(BucketError::Setup(why));
        }
    };
    let profile = env("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
    let keys = profile_of(&text, &profile);
    if keys.is_none() && is_named {
        let why = format!(
            "the file of AWS_SHARED_CREDENTIALS_FILE has no aws_access_key_id and aws_secret_access_key under [{profile}]"
        );
        return Err(BucketError::Setup(why));
    }
    Ok(keys)
}

/// The keys of a profile in the text of such a file.
fn profile_of(text: &str, profile: &str) -> Option<FileKeys> {
    let (mut id, mut secret, mut token) = (None, None, None);
    let mut is_inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            is_inside = name.trim() == profile;
        } else if let Some((name, value)) = line.split_once('=').filter(|_| is_inside) {
            let value = Some(value.trim().to_owned());
            match name.trim() {
                "aws_access_key_id" => id = value,
                "aws_secret_access_key" => secret = value,
                "aws_session_token" => token = value,
                _ => {}
            }
        }
    }
    let (id, secret) = (id?, secret?);
    Some(FileKeys { id, secret, token })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_bucket_and_a_prefix() {
        for (text, bucket, prefix) in [
            ("s3://files", "files", ""),
            ("s3://files/", "files", ""),
            ("s3://my.files-1/loggia/prod", "my.files-1", "loggia/prod"),
            ("s3://files/loggia_2/", "files", "loggia_2"),
        ] {
            let address: S3Address = text.parse().expect(text);
            assert_eq!((&*address.bucket, &*address.prefix), (bucket, prefix));
            assert_eq!(address.to_string(), text.trim_end_matches('/'));
        }
        for text in [
            "",
            "files",
            "s3://",
            "s3:///x",
            "s3://files//x",
            "s3://files/../x",
            "s3://files/./x",
            "s3://id:secret@files",
            "s3://files?region=x",
            "s3://files/a b",
            "https://files",
        ] {
            assert_eq!(text.parse::<S3Address>(), Err(NotS3Address), "{text}");
        }
    }

    fn made(endpoint: &str, env: &[(&str, &str)]) -> Result<S3Options, BucketError> {
        made_with(endpoint, env, |options| options)
    }

    /// Makes a client with these variables.
    fn made_with(
        endpoint: &str,
        env: &[(&str, &str)],
        with: impl Fn(S3Options) -> S3Options,
    ) -> Result<S3Options, BucketError> {
        let address = "s3://files/loggia".parse().expect("an address");
        let options = with(S3Options {
            endpoint: Some(endpoint)
                .filter(|url| !url.is_empty())
                .map(|url| url.parse().expect("a URL")),
            ..S3Options::new(address)
        });
        let find = |name: &str| {
            let found = env.iter().find(|(one, _)| *one == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        options.client(&find).map(|_| options)
    }

    const KEYS: [(&str, &str); 2] = [
        ("AWS_ACCESS_KEY_ID", "the-id"),
        ("AWS_SECRET_ACCESS_KEY", "the-secret"),
    ];

    #[test]
    fn only_this_machine_is_reached_without_tls_unless_the_operator_says_so() {
        for url in [
            "http://127.0.0.1:9000",
            "http://localhost:9000/",
            "http://[::1]:9000",
            "https://s3.example",
        ] {
            assert!(made(url, &KEYS).is_ok(), "{url}");
        }
        for url in [
            "http://minio:9000",
            "http://10.0.0.1",
            "http://localhost.evil.example",
        ] {
            assert!(
                matches!(made(url, &KEYS), Err(BucketError::PlainHttp)),
                "{url}"
            );
            let plain = |options| S3Options {
                plain_http: true,
                ..options
            };
            assert!(made_with(url, &KEYS, plain).is_ok(), "{url}");
        }
        let variable = [KEYS[0], KEYS[1], ("AWS_ENDPOINT_URL", "http://minio:9000")];
        assert!(matches!(made("", &variable), Err(BucketError::PlainHttp)));
        for url in ["ftp://s3.example", "https://id:secret@s3.example"] {
            let error = made(url, &KEYS).expect_err(url).to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn keys_come_from_the_environment_or_a_file() {
        let url = "http://127.0.0.1:9000";
        assert!(matches!(made(url, &[]), Err(BucketError::NoKeys)));
        for half in &KEYS {
            let error = made(url, &[*half]).expect_err("half of the keys");
            assert!(matches!(error, BucketError::HalfOfKeys(_)), "{error}");
            assert!(!error.to_string().contains("the-"), "{error}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("credentials");
        let text = "[other]\naws_access_key_id=1\n\n[default]\n aws_access_key_id = id\naws_secret_access_key = se=cret\n";
        std::fs::write(&path, text).expect("a file");
        let path = path.to_str().expect("a path");
        let file = ("AWS_SHARED_CREDENTIALS_FILE", path);
        assert!(made(url, &[file]).is_ok());
        let error = made(url, &[file, ("AWS_PROFILE", "other")]).expect_err("half a profile");
        assert!(error.to_string().contains("[other]"), "{error}");
        let missing = ("AWS_SHARED_CREDENTIALS_FILE", "/nowhere/credentials");
        assert!(made(url, &[missing]).is_err());
        let keys = profile_of(text, "default").expect("keys");
        assert_eq!(
            (&*keys.id, &*keys.secret, keys.token),
            ("id", "se=cret", None)
        );
        // At AWS itself, its services for instances may give keys.
        assert!(made("", &[]).is_ok());
        let off = ("AWS_EC2_METADATA_DISABLED", "true");
        assert!(matches!(made("", &[off]), Err(BucketError::NoKeys)));
    }

    #[test]
    fn the_bucket_is_in_the_path_or_in_the_name_of_the_host() {
        let address: S3Address = "s3://files/loggia".parse().expect("an address");
        let options = S3Options::new(address);
        let url: Url = "https://s3.example:9000/".parse().expect("a URL");
        let path = options.bucket_endpoint(&url).expect("a URL");
        assert_eq!(path, "https://s3.example:9000");
        let options = S3Options {
            path_style: false,
            ..options
        };
        let host = options.bucket_endpoint(&url).expect("a URL");
        assert_eq!(host, "https://files.s3.example:9000");
    }
}
