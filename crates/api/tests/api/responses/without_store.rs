//! A door without a store, and the fields that need one.

use super::stand_in::{KINDS, Kind, StandIn, hi, ignored, refusal};
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use loggia_api::{Door, Policy};
use serde_json::json;

#[tokio::test]
async fn what_needs_an_earlier_response_is_refused_by_name() {
    for (more, status, code, param) in [
        (
            json!({"previous_response_id": "resp_1"}),
            404,
            "previous_response_not_found",
            "previous_response_id",
        ),
        (
            json!({"conversation": "conv_1"}),
            404,
            "conversation_not_found",
            "conversation",
        ),
        (
            json!({"conversation": {"id": "conv_1"}}),
            404,
            "conversation_not_found",
            "conversation",
        ),
        (
            json!({"conversation": "conv_1", "previous_response_id": "resp_1"}),
            400,
            "mutually_exclusive_parameters",
            "previous_response_id",
        ),
        (
            json!({"background": true}),
            400,
            "unsupported_parameter",
            "background",
        ),
        (
            json!({"prompt": {"id": "pmpt_1"}}),
            400,
            "unsupported_parameter",
            "prompt",
        ),
        (
            json!({"input": [{"type": "item_reference", "id": "rs_1"}]}),
            404,
            "item_not_found",
            "input[0].id",
        ),
        (
            json!({"input": [{"role": "user", "content": "a"}, {"id": "rs_1"}]}),
            404,
            "item_not_found",
            "input[1].id",
        ),
        (
            json!({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}]}),
            400,
            "invalid_value",
            "input[0].content[0].file_id",
        ),
    ] {
        let expected = (status, code.to_owned(), param.to_owned());
        assert_eq!(refusal(&hi(more.clone())).await, expected, "{more}");
    }
}

#[tokio::test]
async fn store_is_named_only_where_the_client_asked_for_it() {
    for kind in KINDS {
        assert_eq!(ignored(kind, &hi(json!({"store": true}))).await, "store");
        assert_eq!(ignored(kind, &hi(json!({"store": false}))).await, "");
    }
    let nulls = json!({"store": null, "previous_response_id": null, "conversation": null, "background": false,
        "prompt": null, "include": [], "metadata": null, "tools": null, "instructions": null});
    assert_eq!(ignored(Kind::Ollama, &hi(nulls)).await, "");
}

#[tokio::test]
async fn a_door_without_a_server_refuses_a_websocket_so_that_clients_go_on_with_post() {
    let door = Door::new(Arc::new(StandIn::hello()), Policy::default());
    let get = |path: &str, upgrade: &str| {
        let request = Request::get(path).header("upgrade", upgrade);
        request.body(Full::<Bytes>::default()).expect("a request")
    };
    let refused = door.serve(get("/v1/responses", "WebSocket")).await;
    assert_eq!(refused.status(), 426);
    assert_eq!(refused.headers()["allow"], "POST");
    let other = door.serve(get("/v1/responses", "h2c")).await;
    assert_eq!(other.status(), 405);
    let unknown = door.serve(get("/v1/nothing", "websocket")).await;
    assert_eq!(unknown.status(), 404);
}
