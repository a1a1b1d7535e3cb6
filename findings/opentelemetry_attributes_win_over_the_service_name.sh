#!/usr/bin/env bash
# OpenTelemetry's SDK for Rust takes the name of a service from OTEL_RESOURCE_ATTRIBUTES also if
# OTEL_SERVICE_NAME gives another one.
#
# Packages: opentelemetry and opentelemetry_sdk 0.33.1 (crates.io; Cargo 1.92 or later)
# Input: a program that prints the `service.name` of `Resource::builder().build()`, run with
#   OTEL_SERVICE_NAME=gateway and OTEL_RESOURCE_ATTRIBUTES=service.name=of-attributes
# Seen: of-attributes. With the first variable alone: gateway.
# A good guess: gateway. The specification of OpenTelemetry gives OTEL_SERVICE_NAME precedence, and the
#   documentation of the detector in the crate says that it is tried first. It is, but the detector
#   of the other variable runs after it, and the last one wins.
# Why it matters: operators set the attributes for a whole cluster and the name for each service. All
#   services then have one name, and programs in other languages beside them do not.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "service"
version = "0.0.0"
edition = "2024"

[dependencies]
opentelemetry = { version = "=0.33.1", default-features = false }
opentelemetry_sdk = { version = "=0.33.1", default-features = false }
TOML
cat >src/main.rs <<'RUST'
fn main() {
    let resource = opentelemetry_sdk::Resource::builder().build();
    let name = resource.get(&opentelemetry::Key::new("service.name"));
    println!("{}", name.expect("a name"));
}
RUST
cargo build --quiet >&2
name_with() {
    env -u OTEL_SERVICE_NAME -u OTEL_RESOURCE_ATTRIBUTES "$@" target/debug/service
}
[ "$(name_with OTEL_SERVICE_NAME=gateway)" = gateway ]
both=$(name_with OTEL_SERVICE_NAME=gateway OTEL_RESOURCE_ATTRIBUTES=service.name=of-attributes)
echo "with both variables: $both"
[ "$both" = of-attributes ]
