//! Which part of a list a request asks for: `after`, `limit` and `order`; and its filters.

use crate::ApiError;
use crate::admit::checks::{between, one_of};
use crate::door::query::Query;
use crate::store::{Filter, Order, Page};

/// The largest limit, and the limit that is used if the request has none.
const MOST: i64 = 100;
const USUAL: i64 = 20;

/// Returns the part of a list that a query asks for. `otherwise` is the order if the query has
/// none.
///
/// # Errors
/// A 400 for a limit that is not a number from 0 to 100, and for an unknown order.
pub(crate) fn of(query: &Query, otherwise: Order) -> Result<Page, ApiError> {
    of_limit(query, limit(query, USUAL, 0, MOST)?, otherwise)
}

/// Returns the part of a list that a query asks for, with this limit.
///
/// # Errors
/// A 400 for an unknown order.
pub(crate) fn of_limit(query: &Query, limit: usize, otherwise: Order) -> Result<Page, ApiError> {
    let order = query.get("order");
    one_of("order", order, &["asc", "desc"])?;
    Ok(Page {
        after: query.get("after").map(str::to_owned),
        limit,
        order: match order {
            Some("asc") => Order::Ascending,
            Some(_) => Order::Descending,
            None => otherwise,
        },
    })
}

/// Returns `limit` of a query, or the usual limit if the query has none.
///
/// # Errors
/// A 400 for a limit that is not a number from `least` to `most`.
pub(crate) fn limit(query: &Query, usual: i64, least: i64, most: i64) -> Result<usize, ApiError> {
    let limit = match query.get("limit").map(str::parse::<i64>) {
        None => usual,
        Some(Ok(limit)) => limit,
        Some(Err(_)) => {
            let message = "Invalid type for 'limit': expected an integer.";
            return Err(ApiError::invalid("limit", "invalid_type", message));
        }
    };
    between("limit", Some(limit), least, most)?;
    Ok(usize::try_from(limit).unwrap_or_default())
}

/// Returns the filter of a list of chat completions.
pub(crate) fn filter(query: &Query) -> Filter {
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    Filter {
        model: query.get("model").map(str::to_owned),
        metadata: query.map("metadata").map(owned).collect(),
    }
}
