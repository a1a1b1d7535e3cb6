//! The end of a batch: its finished lines become files.

use bytes::Bytes;

use super::run::{End, Run, Stop};
use super::{ERRORS, KEPT_SECONDS, schedule};
use crate::answer::id;
use crate::store::{Change, Kind, Order, Page, Side};
use crate::stored::files::{StoredFile, creation, new_file};

/// How many lines are read at once.
const AT_ONCE: usize = 200;

impl Run<'_> {
    /// Writes the files, and ends the batch together with their rows.
    pub(super) async fn finish(&mut self, end: End) -> Result<(), Stop> {
        let output = self.file(Side::Output, "output").await?;
        let errors = self.file(ERRORS, "error").await;
        if let (Some(output), Err(_)) = (&output, &errors) {
            // The next attempt writes the file again.
            self.files.discard(&output.place).await;
        }
        let errors = errors?;
        let now = id::now();
        let batch = &mut self.stored.batch;
        let id_of = |file: &Option<StoredFile>| file.as_ref().map(|one| one.file.id.clone());
        (batch.output_file_id, batch.error_file_id) = (id_of(&output), id_of(&errors));
        match end {
            End::Completed => {
                batch.status = "completed".into();
                batch.completed_at = Some(now);
            }
            End::Expired => {
                batch.status = "expired".into();
                batch.expired_at = Some(now);
            }
            End::Cancelled(at) => {
                batch.status = "cancelled".into();
                (batch.cancelling_at, batch.cancelled_at) = (Some(at), Some(now));
            }
        }
        let mut changes = vec![self.replaced(Vec::new())?];
        for stored in output.iter().chain(&errors) {
            changes.extend(creation(self.content_kind(), stored, None)?);
        }
        let id = self.id().to_owned();
        changes.push(schedule(self.kind, &id, now + KEPT_SECONDS));
        // The lines are in the files now.
        changes.push(Change::Clear {
            kind: self.kind,
            id,
        });
        let done = match self.webhooks().await {
            Ok(webhooks) => {
                changes.extend(webhooks);
                self.commit(changes).await
            }
            Err(error) => Err(error.into()),
        };
        if done.is_err() {
            for stored in output.iter().chain(&errors) {
                self.files.discard(&stored.place).await;
            }
        } else if self.kind == Kind::MessageBatch {
            let input = &self.stored.batch.input_file_id;
            self.files.delete_batch_content(input).await;
        }
        done
    }

    /// Writes the lines of one side, in the order in which they were done. `None` without lines.
    async fn file(&mut self, side: Side, name: &str) -> Result<Option<StoredFile>, Stop> {
        let mut page = Page {
            after: None,
            limit: AT_ONCE,
            order: Order::Ascending,
        };
        let file_id = id::file();
        let (mut writing, mut bytes) = (None, 0);
        loop {
            let at = self.files.at(self.kind, &self.stored.batch.id);
            let part = self.files.store.items(at, side, &page).await?;
            let Some(last) = part.data.last() else { break };
            page.after = Some(last.id.clone());
            let (_, writer) = match &mut writing {
                Some(writing) => writing,
                None => writing.insert(self.files.begin(&format!("files/{file_id}")).await?),
            };
            for item in part.data {
                let line = Bytes::from(item.body + "\n");
                bytes += line.len() as u64;
                writer.write(line).await?;
            }
            self.renew().await?;
            if !part.has_more {
                break;
            }
        }
        let Some((place, writer)) = writing else {
            return Ok(None);
        };
        writer.finish().await?;
        let lasts = self.stored.lasts.unwrap_or(KEPT_SECONDS);
        let name = format!("{}_{name}.jsonl", self.id());
        let purpose = "batch_output".to_owned();
        let file = new_file(file_id, bytes, name, purpose, Some(lasts));
        Ok(Some(StoredFile {
            file,
            place,
            media_type: None,
        }))
    }
}
