//! Assigns each piece to a call: one that has begun, or a new one.

use loggia_wire::Extra;

use super::json::Json;

/// The calls of one choice, in the order in which they began.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    calls: Vec<Call>,
    /// Whether each entry of the current list is a separate call.
    whole: bool,
    /// The call of the previous entry of the list.
    before: Option<usize>,
}

/// The part of a call that has arrived so far.
#[derive(Debug, Default)]
pub(super) struct Call {
    /// The engine's index of the call, if it sends one.
    index: Option<u32>,
    /// The engine's id of the call, if it sends one.
    pub(super) id: Option<String>,
    pub(super) name: String,
    /// Whether the call is of a tool other than a function. The name and input of such a call are
    /// in separate fields.
    pub(super) is_custom: bool,
    /// Whether any arguments have arrived.
    has_arguments: bool,
    /// The number of pieces, and whether one after the first had no name, which shows that names
    /// are not repeated.
    pieces: u32,
    has_unnamed: bool,
    arguments: Json,
    /// The index for the client, after the call was first sent.
    pub(super) sent: Option<u32>,
    /// Arguments that wait for the name.
    pub(super) held: String,
    pub(super) held_extra: Extra,
    pub(super) extra: Extra,
}

impl Call {
    /// Returns whether the call has arguments but no function name yet.
    pub(super) fn lacks_its_name(&self) -> bool {
        self.sent.is_none() && !self.held.trim().is_empty()
    }
}

/// The properties of a piece that identify its call.
#[derive(Clone, Copy)]
struct Piece<'a> {
    index: Option<u32>,
    id: Option<&'a str>,
    name: Option<&'a str>,
    arguments: &'a str,
}

impl Pieces {
    /// Returns all calls so far.
    pub(super) fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// Begins a list of pieces, or the complete list of an answer's calls.
    pub(super) fn begin_list(&mut self, whole: bool) {
        self.whole = whole;
        self.before = None;
    }

    /// Adds a piece to its call. Returns the call, and the new part of its name if there is one.
    /// `None` if the piece is empty.
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
            // Some engines announce a call by an index only, before its name is known. Such a piece
            // is ignored.
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

    /// Returns the existing call that this piece belongs to. `None` if it begins a new one.
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
                // This is the id of a call that has arrived without one.
                None => last().filter(|&at| self.calls[at].id.is_none() && piece.name.is_none())?,
            },
            (None, None) => last()?,
        };
        // Entries of one list with names are different calls.
        let beside = piece.index.is_none() && piece.name.is_some() && self.before == Some(place);
        let begins_another = beside || begins_another(&self.calls[place], piece);
        (!begins_another).then_some(place)
    }
}

/// Returns the new part of a name: nothing if the name is repeated, the rest if the name arrives in
/// parts, which precede the arguments.
fn more_of_the_name<'a>(call: &Call, name: &'a str) -> Option<&'a str> {
    let rest = name.strip_prefix(call.name.as_str()).unwrap_or(name);
    (!rest.is_empty() && (call.name.is_empty() || !call.has_arguments)).then_some(rest)
}

/// Returns whether a piece that seems to belong to this call begins a new one.
fn begins_another(call: &Call, piece: Piece<'_>) -> bool {
    let other_id = matches!((piece.id, &call.id), (Some(id), Some(known)) if id != known);
    let is_complete = call.arguments.is_complete();
    match piece.name {
        // Some engines send a new id and no name with each piece of a call.
        None => other_id && is_complete && !piece.arguments.trim().is_empty(),
        Some(_) if other_id => true,
        Some(_) if call.name.is_empty() => false,
        Some(name) if name == call.name => is_called_again(call, piece),
        Some(_) => call.has_arguments || piece.index.is_none(),
    }
}

/// Returns whether a piece with the name of this call is a second call of the same function, not a
/// repeated name.
fn is_called_again(call: &Call, piece: Piece<'_>) -> bool {
    let is_complete = call.arguments.is_complete();
    if is_complete && piece.arguments.trim_start().starts_with('{') {
        return true;
    }
    // Only names separate the calls: this engine does not repeat them, or the call arrived in one
    // piece.
    let has_only_names = piece.index.is_none() && piece.id.is_none() && call.id.is_none();
    has_only_names && (call.has_unnamed || (is_complete && call.pieces == 1))
}
