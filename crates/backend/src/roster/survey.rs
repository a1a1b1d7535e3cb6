//! [`Survey`]: the models and aliases of a roster and the names that hide others, for `loggia
//! check`.

use std::sync::Arc;
use std::time::Duration;

use super::Roster;
use super::alias::Choice;
use super::resolved::ResolvedModel;
use crate::BackendError;

/// The models and aliases of a roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The backends, in order.
    pub backends: Vec<SurveyedBackend>,
    /// The aliases, by name.
    pub aliases: Vec<SurveyedAlias>,
}

/// A backend of a survey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SurveyedBackend {
    /// The name of the backend.
    pub name: Arc<str>,
    /// The models of the backend, or the error of the request for them.
    pub models: Result<Vec<Found>, BackendError>,
}

/// A model of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The backend's name for the model.
    pub id: String,
    /// The model that the bare name leads to instead, as `NAME/model`. Only `NAME/id` leads to this
    /// model then.
    pub shadowed_by: Option<String>,
}

/// An alias of a survey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SurveyedAlias {
    /// The name or pattern.
    pub from: String,
    /// The target, as configured.
    pub to: String,
    /// The resulting model, as `NAME/model`. `None` if there is none, and for a pattern whose
    /// target depends on the name.
    pub leads_to: Option<String>,
}

impl Roster {
    /// Requests the models of all backends now.
    pub async fn survey(&self) -> Survey {
        self.refresh(Duration::ZERO).await;
        let backends = self.members.iter().map(|member| {
            let said = member.last_list();
            let found = |id: &String| Found {
                id: id.clone(),
                shadowed_by: self
                    .place(id)
                    .filter(|_| !self.leads_to(id, member, id))
                    .map(|place| written(&place)),
            };
            let models = match (said.up(), said.error()) {
                (_, Some(error)) => Err(error.clone()),
                (models, None) => Ok(models
                    .iter()
                    .flat_map(|models| &models.list)
                    .map(|model| found(&model.id))
                    .collect()),
            };
            SurveyedBackend {
                name: Arc::clone(&member.name),
                models,
            }
        });
        let mut aliases: Vec<SurveyedAlias> = self
            .aliases
            .iter()
            .map(|alias| SurveyedAlias {
                from: alias.from().to_owned(),
                to: alias.to().to_owned(),
                leads_to: if alias.to().contains('*') {
                    None
                } else {
                    let places = self.places(alias.from(), Choice::AsWritten);
                    let places: Vec<String> = places.iter().map(written).collect();
                    Some(places.join(" | ")).filter(|places| !places.is_empty())
                },
            })
            .collect();
        aliases.sort_by(|one, other| one.from.cmp(&other.from));
        Survey {
            backends: backends.collect(),
            aliases,
        }
    }
}

fn written(place: &ResolvedModel<'_>) -> String {
    format!("{}/{}", place.member.name, place.model)
}
