//! What a roster finds at its backends, and who shadows whom: what `loggia check` prints.

use std::sync::Arc;
use std::time::Duration;

use super::Roster;
use super::names::Place;
use crate::BackendError;

/// What a roster finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The backends, in order.
    pub backends: Vec<SurveyedBackend>,
    /// The aliases, by name.
    pub aliases: Vec<SurveyedAlias>,
}

/// One backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SurveyedBackend {
    /// Its name.
    pub name: Arc<str>,
    /// Its models, or why it does not tell.
    pub models: Result<Vec<Found>, BackendError>,
}

/// One model of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The backend's name for it.
    pub id: String,
    /// Where its bare name leads instead, as `NAME/model`. Then only `NAME/id` leads to it.
    pub shadowed_by: Option<String>,
}

/// One alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SurveyedAlias {
    /// What it applies to.
    pub from: String,
    /// What it stands for, as it was written.
    pub to: String,
    /// Where it leads, as `NAME/model`; `None` where nowhere, and for a pattern whose target
    /// depends on the name.
    pub leads_to: Option<String>,
}

impl Roster {
    /// Asks every backend now.
    pub async fn survey(&self) -> Survey {
        self.refresh(Duration::ZERO).await;
        let backends = self.members.iter().map(|member| {
            let said = member.said();
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
                    self.place(alias.to()).map(|place| written(&place))
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

fn written(place: &Place<'_>) -> String {
    format!("{}/{}", place.member.name, place.model)
}
