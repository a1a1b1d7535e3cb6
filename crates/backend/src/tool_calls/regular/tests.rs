//! The calls are the same whatever pieces they arrive in.

use loggia_wire::openai::Delta;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Returns a delta with these `tool_calls`, as parsed from an engine's frame.
fn delta(pieces: &Value) -> ChunkChoice {
    let pieces = pieces.as_array().expect("a list").iter().map(|piece| {
        let mut piece = piece.clone();
        let fields = piece.as_object_mut().expect("an object");
        fields.entry("index").or_insert(json!(NO_INDEX));
        serde_json::from_value(piece).expect("a piece")
    });
    ChunkChoice::delta(
        0,
        Delta {
            tool_calls: Some(pieces.collect()),
            ..Delta::default()
        },
    )
}

/// A call as a client assembles it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Assembled {
    id: String,
    name: String,
    arguments: String,
}

/// Assembles the deltas by index, with id, type and name only from the first piece, as the AI SDK
/// does.
fn put_together(deltas: &[ChunkChoice]) -> Vec<Assembled> {
    let mut calls: Vec<Assembled> = Vec::new();
    for piece in deltas
        .iter()
        .filter_map(|choice| choice.delta.tool_calls.as_ref())
        .flatten()
    {
        let function = piece.function.clone().expect("each piece has a function");
        let index = usize::try_from(piece.index).unwrap();
        if index == calls.len() {
            assert_eq!(piece.kind.as_deref(), Some("function"));
            let name = function
                .name
                .clone()
                .expect("the first piece names the function");
            calls.push(Assembled {
                id: piece.id.clone().expect("the first piece has an id"),
                name,
                ..Assembled::default()
            });
        } else {
            assert!(index < calls.len(), "indexes rise one by one");
            assert_eq!(
                (&piece.id, &piece.kind, &function.name),
                (&None, &None, &None),
                "said once"
            );
        }
        calls[index]
            .arguments
            .push_str(&function.arguments.expect("arguments are a string"));
    }
    calls
}

/// Returns the calls for these lists of pieces, one after the other.
fn made(lists: &[Value]) -> Vec<Assembled> {
    let mut calls = ToolCalls::new("chatcmpl-x", 1);
    let mut deltas: Vec<_> = lists.iter().map(delta).collect();
    for delta in &mut deltas {
        calls.piece(delta).expect("regular");
        assert_ne!(
            delta.delta.tool_calls.as_ref().map(Vec::len),
            Some(0),
            "an empty list is left out"
        );
    }
    put_together(&deltas)
}

fn got(id: &str, name: &str, arguments: &str) -> Assembled {
    Assembled {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    }
}

#[test]
fn another_id_begins_another_call_where_there_are_no_indexes_or_always_the_same() {
    for index in [json!({}), json!({"index": 0})] {
        let piece = |id: &str, arguments: &str| {
            let mut piece = json!({"id": id, "type": "function", "function": {"name": "look", "arguments": arguments}});
            piece
                .as_object_mut()
                .unwrap()
                .extend(index.as_object().unwrap().clone());
            json!([piece])
        };
        let calls = made(&[
            piece("a", r#"{"at": "x"}"#),
            piece("b", r#"{"at": "y"}"#),
            piece("c", ""),
        ]);
        assert_eq!(
            calls,
            [
                got("a", "look", r#"{"at": "x"}"#),
                got("b", "look", r#"{"at": "y"}"#),
                got("c", "look", "")
            ]
        );
    }
}

#[test]
fn another_index_begins_another_call_and_indexes_are_counted_from_zero() {
    let piece = |index: u32, id: &str, arguments: &str| json!([{"index": index, "id": id, "function": {"name": "f", "arguments": arguments}}]);
    let calls = made(&[piece(1, "a", "{}"), piece(5, "b", "{}")]);
    assert_eq!(calls, [got("a", "f", "{}"), got("b", "f", "{}")]);
}

#[test]
fn an_id_that_two_calls_have_is_kept_by_the_first_and_missing_ones_are_made() {
    let piece = |index: u32, id: Value| json!([{"index": index, "id": id, "function": {"name": "f", "arguments": "{}"}}]);
    let calls = made(&[
        piece(0, json!("call_0")),
        piece(1, json!("call_0")),
        piece(2, json!(null)),
        piece(3, json!("")),
    ]);
    let ids: Vec<&str> = calls.iter().map(|call| call.id.as_str()).collect();
    assert_eq!(ids, ["call_0", "call_x_1", "call_x_2", "call_x_3"]);
    // All ids differ, even if an id of the engine has the format of generated ids.
    let calls = made(&[
        piece(0, json!("call_x_1")),
        piece(1, json!(null)),
        piece(2, json!("call_x_2")),
    ]);
    let ids: HashSet<&str> = calls.iter().map(|call| call.id.as_str()).collect();
    assert_eq!(ids.len(), 3);
}

#[test]
fn a_call_is_told_once_its_name_is_known_with_what_came_before() {
    let lists = [
        json!([{"index": 0, "id": "a", "type": "function"}]),
        json!([{"index": 0, "function": {"arguments": "{\"a\":"}}]),
        json!([{"index": 0, "function": {"name": "f"}}]),
        json!([{"index": 0, "function": {"arguments": "1}"}}]),
    ];
    assert_eq!(made(&lists), [got("a", "f", "{\"a\":1}")]);
}

#[test]
fn an_id_of_its_own_for_each_piece_of_a_call_is_no_other_call() {
    let lists = [
        json!([{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}]),
        json!([{"index": 0, "id": "b", "function": {"arguments": "{\"a\":"}}]),
        json!([{"index": 0, "id": "c", "function": {"arguments": "1}"}}]),
        json!([{"index": 0, "id": "d", "function": {"arguments": ""}}]),
    ];
    assert_eq!(made(&lists), [got("a", "f", "{\"a\":1}")]);
}

#[test]
fn lists_of_nothing_are_left_out_and_change_no_reason_to_end() {
    for list in [
        json!([]),
        json!([{}]),
        json!([{"index": 0}]),
        json!([{"index": 0, "function": {"name": "", "arguments": ""}}]),
    ] {
        let mut calls = ToolCalls::new("x", 1);
        let mut choice = delta(&list);
        choice.finish_reason = Some(FinishReason::Stop);
        calls.piece(&mut choice).unwrap();
        assert_eq!(
            (choice.delta.tool_calls, choice.finish_reason),
            (None, Some(FinishReason::Stop)),
            "{list}"
        );
    }
}

#[test]
fn calls_are_the_reason_of_the_end_where_the_engine_says_that_it_stopped() {
    use FinishReason::{ContentFilter, FunctionCall, Length, Stop, ToolCalls as Called};
    let call = json!([{"id": "a", "function": {"name": "f", "arguments": "{}"}}]);
    for whole in [false, true] {
        for (said, with_calls, with_a_function, without) in [
            (Stop, Called, FunctionCall, Stop),
            (Called, Called, FunctionCall, Stop),
            (FunctionCall, Called, FunctionCall, Stop),
            (Length, Length, Length, Length),
            (ContentFilter, ContentFilter, ContentFilter, ContentFilter),
        ] {
            let function = FunctionCallDelta {
                name: Some("f".to_owned()),
                arguments: None,
                extra: Extra::new(),
            };
            let function = Delta {
                function_call: Some(function),
                ..Delta::default()
            };
            for (mut choice, expected) in [
                (delta(&call), with_calls),
                (ChunkChoice::delta(0, function), with_a_function),
                (ChunkChoice::delta(0, Delta::content("Hi")), without),
            ] {
                choice.finish_reason = Some(said);
                let mut calls = ToolCalls::new("x", 1);
                if whole {
                    calls.whole(&mut choice)
                } else {
                    calls.piece(&mut choice)
                }
                .unwrap();
                assert_eq!(choice.finish_reason, Some(expected), "{said:?} {choice:?}");
            }
        }
    }
}

#[test]
fn each_choice_has_calls_of_its_own() {
    let mut calls = ToolCalls::new("x", 2);
    let mut choices = [0, 1, 0].map(|index| ChunkChoice {
        index,
        ..delta(&json!([{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}]))
    });
    for choice in &mut choices {
        calls.piece(choice).unwrap();
    }
    let ids = choices.map(|choice| {
        choice
            .delta
            .tool_calls
            .map(|calls| (calls[0].index, calls[0].id.clone().unwrap_or_default()))
    });
    assert_eq!(ids[0], Some((0, "a".to_owned())));
    assert_eq!(ids[1], Some((0, "call_x_1".to_owned())));
    let called = |choice| calls.end(choice, FinishReason::Stop).unwrap();
    assert_eq!(
        (called(0), called(1)),
        (FinishReason::ToolCalls, FinishReason::ToolCalls)
    );
}

#[test]
fn the_name_of_an_older_call_comes_once_and_nothing_is_left_out() {
    let mut calls = ToolCalls::new("x", 1);
    let mut piece = |value: Value| {
        let function = Delta {
            function_call: Some(serde_json::from_value(value).unwrap()),
            ..Delta::default()
        };
        let mut choice = ChunkChoice::delta(0, function);
        calls.piece(&mut choice).unwrap();
        serde_json::to_value(&choice.delta.function_call).unwrap()
    };
    assert_eq!(piece(json!({})), Value::Null);
    assert_eq!(
        piece(json!({"name": "f"})),
        json!({"name": "f", "arguments": ""})
    );
    assert_eq!(
        piece(json!({"name": "f", "arguments": "{}"})),
        json!({"arguments": "{}"})
    );
    assert_eq!(piece(json!({"name": "", "arguments": null})), Value::Null);
}

#[test]
fn calls_that_nobody_could_make_are_an_error_and_not_without_bound() {
    let nameless = json!([{"index": 0, "id": "a", "function": {"arguments": "{}"}}]);
    let mut calls = ToolCalls::new("x", 1);
    calls.piece(&mut delta(&nameless)).unwrap();
    assert!(
        calls.end(0, FinishReason::Stop).is_err(),
        "there is no function to call"
    );
    let long = json!([{"index": 0, "function": {"arguments": "x".repeat(MOST_HELD / 2 + 1)}}]);
    let mut calls = ToolCalls::new("x", 1);
    assert!(calls.piece(&mut delta(&long)).is_ok());
    assert!(calls.piece(&mut delta(&long)).is_err());
    let mut calls = ToolCalls::new("x", 1);
    let many = (0..=MOST_CALLS)
        .map(|index| json!({"index": index, "function": {"name": "f"}}))
        .collect();
    assert!(calls.piece(&mut delta(&many)).is_err());
}

/// How an engine identifies the call of a piece.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Marks {
    /// Each call has an index, and pieces of several calls alternate.
    Indexes,
    /// Each call has an id and no index.
    Ids,
    /// Each call has an id, and the index is always 0.
    IdsAtZero,
    /// Calls have neither index nor id; a name begins a call.
    Names,
}

/// How an engine sends ids.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ids {
    Once,
    Repeated,
    /// A new id on each piece.
    Fresh,
    /// All calls have the same id.
    Same,
    Never,
}

/// How the engine sends names after the first piece.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Names {
    Once,
    Repeated,
    Empty,
}

#[derive(Clone, Copy, Debug)]
struct Encoding {
    marks: Marks,
    ids: Ids,
    names: Names,
    types: bool,
    /// Whether a piece without arguments comes first.
    opens: bool,
    together: bool,
}

fn ways() -> impl Strategy<Value = Encoding> {
    let marks = prop_oneof![
        Just(Marks::Indexes),
        Just(Marks::Ids),
        Just(Marks::IdsAtZero),
        Just(Marks::Names)
    ];
    let ids = prop_oneof![
        Just(Ids::Once),
        Just(Ids::Repeated),
        Just(Ids::Fresh),
        Just(Ids::Same),
        Just(Ids::Never)
    ];
    let names = prop_oneof![Just(Names::Once), Just(Names::Repeated), Just(Names::Empty)];
    (
        marks,
        ids,
        names,
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(marks, ids, names, types, opens, together)| {
            // Without an index the ids must distinguish the calls, and without ids the names must.
            let ids = match (marks, ids) {
                (Marks::Indexes, ids) => ids,
                (Marks::Ids | Marks::IdsAtZero, Ids::Repeated) => Ids::Repeated,
                (Marks::Ids | Marks::IdsAtZero, _) => Ids::Once,
                (Marks::Names, _) => Ids::Never,
            };
            // A piece with a name and a new id is a call.
            let unclear = names == Names::Repeated && (marks == Marks::Names || ids == Ids::Fresh);
            let names = if unclear { Names::Once } else { names };
            Encoding {
                marks,
                ids,
                names,
                types,
                opens,
                together,
            }
        })
}

/// Returns the pieces of one call.
fn pieces(
    way: Encoding,
    number: usize,
    call: &Assembled,
    cuts: &[prop::sample::Index],
) -> Vec<Value> {
    let mut cuts: Vec<usize> = cuts
        .iter()
        .map(|cut| cut.index(call.arguments.len() + 1))
        .collect();
    cuts.retain(|&cut| call.arguments.is_char_boundary(cut));
    cuts.extend(way.opens.then_some(0));
    cuts.sort_unstable();
    let mut texts = Vec::new();
    let mut from = 0;
    for to in cuts.into_iter().chain([call.arguments.len()]) {
        texts.push(&call.arguments[from..to]);
        from = to;
    }
    let piece = |(at, text): (usize, &&str)| {
        let first = at == 0;
        let mut piece = json!({"function": {"arguments": text}});
        match way.marks {
            Marks::Indexes => piece["index"] = json!(number * 2 + 1),
            Marks::IdsAtZero => piece["index"] = json!(0),
            Marks::Ids | Marks::Names => {}
        }
        match way.ids {
            Ids::Once if first => piece["id"] = json!(call.id),
            Ids::Repeated => piece["id"] = json!(call.id),
            Ids::Fresh => piece["id"] = json!(format!("fresh-{number}-{at}")),
            Ids::Same => piece["id"] = json!("same"),
            Ids::Once | Ids::Never => piece["id"] = json!(null),
        }
        match way.names {
            _ if first => piece["function"]["name"] = json!(call.name),
            Names::Repeated => piece["function"]["name"] = json!(call.name),
            Names::Empty => piece["function"]["name"] = json!(""),
            Names::Once => {}
        }
        if way.types {
            piece["type"] = json!("function");
        }
        piece
    };
    texts.iter().enumerate().map(piece).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_same_calls_come_out_whatever_pieces_an_engine_sends_them_in(
        way in ways(),
        wanted in prop::collection::vec((0..3_usize, 0..6_usize, prop::collection::vec(any::<prop::sample::Index>(), 0..4)), 1..5),
        turns in prop::collection::vec(0..5_usize, 40),
    ) {
        const NAMES: [&str; 3] = ["look", "look_up", "now"];
        const ARGUMENTS: [&str; 6] = ["{}", "", r#"{"at": "x"}"#, r#"{"a": {"b": ["}", "\"{"]}}"#, "{\n \"é\": \"\\\\\"\n}", r#"{"n": 12345678901234567890123}"#];
        let calls: Vec<Assembled> = wanted.iter().enumerate().map(|(number, &(name, arguments, _))| {
            // Without arguments, only the name, index or id of the next call shows the end of a
            // call.
            let arguments = if way.marks == Marks::Names && arguments == 1 { 0 } else { arguments };
            got(&format!("id_{number}"), NAMES[name], ARGUMENTS[arguments])
        }).collect();
        let mut queues: Vec<_> = calls.iter().enumerate().map(|(number, call)| {
            std::collections::VecDeque::from(pieces(way, number, call, &wanted[number].2))
        }).collect();
        let mut sent = Vec::new();
        if way.marks == Marks::Indexes {
            // A call begins after the previous one has begun.
            let mut begun = 1;
            for turn in turns {
                let which = turn % begun.min(queues.len());
                sent.extend(queues[which].pop_front());
                begun += usize::from(which + 1 == begun);
            }
        }
        sent.extend(queues.into_iter().flatten());
        let lists: Vec<Value> = if way.together && way.marks == Marks::Indexes { vec![json!([]), sent.into()] } else {
            sent.into_iter().flat_map(|piece| [json!([piece]), json!([])]).collect()
        };
        let out = made(&lists);
        let told = |calls: &[Assembled]| calls.iter().map(|call| (call.name.clone(), call.arguments.clone())).collect::<Vec<_>>();
        prop_assert_eq!(told(&out), told(&calls), "{:?} {:?}", way, lists);
        let ids: HashSet<&str> = out.iter().map(|call| call.id.as_str()).collect();
        prop_assert_eq!(ids.len(), out.len(), "ids differ");
        if matches!(way.ids, Ids::Once | Ids::Repeated) {
            prop_assert_eq!(out, calls);
        }
    }

    /// Random pieces never cause a panic, and the client always sees valid calls.
    #[test]
    fn odd_pieces_never_break_the_form(pieces in prop::collection::vec((
        prop::option::of(0..3_u32), prop::option::of("[ab]?"), prop::option::of("(f|fg|g)?"), prop::option::of("[{}\" \\\\a]{0,4}"),
    ), 0..30)) {
        let lists: Vec<Value> = pieces.into_iter().map(|(index, id, name, arguments)| {
            json!([{"index": index.unwrap_or(NO_INDEX), "id": id, "function": {"name": name, "arguments": arguments}}])
        }).collect();
        let mut calls = ToolCalls::new("x", 1);
        for list in &lists {
            let mut choice = delta(list);
            calls.piece(&mut choice).unwrap();
            for piece in choice.delta.tool_calls.into_iter().flatten() {
                prop_assert!(piece.index as usize <= calls.count);
            }
        }
        let _ = calls.end(0, FinishReason::Stop);
    }
}
