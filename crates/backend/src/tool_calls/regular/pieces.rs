//! Which call a piece belongs to: one that has begun, or another.

use loggia_wire::Extra;

use super::json::Json;

/// The calls of one choice, in the order in which they began.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    calls: Vec<Call>,
    /// Whether each entry of the list that is being read is a call of its own.
    whole: bool,
    /// The call that the list's entry before this one belonged to.
    before: Option<usize>,
}

/// A call as far as it has come.
#[derive(Debug, Default)]
pub(super) struct Call {
    /// The engine's index, where it has one.
    index: Option<u32>,
    /// The engine's id, where it has one.
    pub(super) id: Option<String>,
    pub(super) name: String,
    /// Whether it calls something else than a function: what, and with what, stands in fields of
    /// its own.
    pub(super) is_custom: bool,
    /// Whether any arguments have come.
    has_arguments: bool,
    /// How many pieces have come, and whether one after the first had no name: then names are not
    /// repeated.
    pieces: u32,
    has_unnamed: bool,
    arguments: Json,
    /// The index that the client knows it by, once it was told of it.
    pub(super) sent: Option<u32>,
    /// Arguments that wait for the name.
    pub(super) held: String,
    pub(super) held_extra: Extra,
    pub(super) extra: Extra,
}

impl Call {
    /// Whether it has arguments, and nobody knows for which function.
    pub(super) fn lacks_its_name(&self) -> bool {
        self.sent.is_none() && !self.held.trim().is_empty()
    }
}

/// What a piece says of the call that it belongs to.
#[derive(Clone, Copy)]
struct Piece<'a> {
    index: Option<u32>,
    id: Option<&'a str>,
    name: Option<&'a str>,
    arguments: &'a str,
}

impl Pieces {
    /// All calls so far.
    pub(super) fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// A list of pieces follows, or the whole list of an answer's calls.
    pub(super) fn begin_list(&mut self, whole: bool) {
        self.whole = whole;
        self.before = None;
    }

    /// Adds a piece to its call; gives back the call, and more of its name where the piece has
    /// some. `None` where the piece says nothing.
    pub(super) fn add(
        &mut self,
        index: Option<u32>,
        id: Option<&str>,
        name: Option<&str>,
        arguments: &str,
    ) -> Option<(&mut Call, Option<String>)> {
        let piece = Piece {
            index,
            id,
            name,
            arguments,
        };
        let place = self.place(piece);
        if place.is_none() && id.is_none() && name.is_none() && arguments.is_empty() && !self.whole
        {
            // An engine that announces a call before it knows anything of it: the index tells
            // nothing.
            return None;
        }
        let place = place.unwrap_or_else(|| {
            self.calls.push(Call {
                index,
                ..Call::default()
            });
            self.calls.len() - 1
        });
        self.before = Some(place);
        let call = self.calls.get_mut(place)?;
        if call.id.is_none() {
            call.id = id.map(str::to_owned);
        }
        let more = name.and_then(|name| more_of_the_name(call, name));
        call.name.extend(more);
        call.has_unnamed |= call.pieces > 0 && name.is_none();
        call.pieces = call.pieces.saturating_add(1);
        call.has_arguments |= !arguments.is_empty();
        call.arguments.push(arguments);
        Some((call, more.map(str::to_owned)))
    }

    /// The call that has begun and that this piece belongs to; `None` where it begins another.
    fn place(&self, piece: Piece<'_>) -> Option<usize> {
        if self.whole {
            return None;
        }
        let last = || self.calls.len().checked_sub(1);
        let latest = |is: &dyn Fn(&Call) -> bool| self.calls.iter().rposition(is);
        let place = match (piece.index, piece.id) {
            (Some(index), _) => latest(&|call| call.index == Some(index))?,
            (None, Some(id)) => match latest(&|call| call.id.as_deref() == Some(id)) {
                Some(place) => place,
                // An id that comes late, for a call that had none.
                None => last().filter(|&at| self.calls[at].id.is_none() && piece.name.is_none())?,
            },
            (None, None) => last()?,
        };
        // Entries of one list are different calls, where each has a name.
        let beside = piece.index.is_none() && piece.name.is_some() && self.before == Some(place);
        let begins_another = beside || begins_another(&self.calls[place], piece);
        (!begins_another).then_some(place)
    }
}

/// What is new of a name: nothing where it is repeated, and the rest where it is sent in parts,
/// which come before the arguments.
fn more_of_the_name<'a>(call: &Call, name: &'a str) -> Option<&'a str> {
    let rest = name.strip_prefix(call.name.as_str()).unwrap_or(name);
    (!rest.is_empty() && (call.name.is_empty() || !call.has_arguments)).then_some(rest)
}

/// Whether a piece that seems to belong to this call begins another.
fn begins_another(call: &Call, piece: Piece<'_>) -> bool {
    let other_id = matches!((piece.id, &call.id), (Some(id), Some(known)) if id != known);
    let is_complete = call.arguments.is_complete();
    match piece.name {
        // Some engines give each piece of a call an id of its own, and then no name.
        None => other_id && is_complete && !piece.arguments.trim().is_empty(),
        Some(_) if other_id => true,
        Some(_) if call.name.is_empty() => false,
        Some(name) if name == call.name => is_called_again(call, piece),
        Some(_) => call.has_arguments || piece.index.is_none(),
    }
}

/// Whether a piece with the name of this call calls the same function once more, and does not only
/// repeat the name.
fn is_called_again(call: &Call, piece: Piece<'_>) -> bool {
    let is_complete = call.arguments.is_complete();
    if is_complete && piece.arguments.trim_start().starts_with('{') {
        return true;
    }
    // Where names alone tell calls apart: this engine does not repeat them, or the call came whole
    // in one piece.
    let has_only_names = piece.index.is_none() && piece.id.is_none() && call.id.is_none();
    has_only_names && (call.has_unnamed || (is_complete && call.pieces == 1))
}
