//! What an administrator, or the sender, wants with mail that waits.

use super::{
    QueueId,
    memory::tasks_of,
    plan::QueuePlan,
    row::{Envelope, Task},
};
use crate::{
    command::{AccountId, EngineError},
    kv::{Family, keys},
};

/// What is to be done with a message that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Not sent until it is released.
    Hold,
    /// Sent after all, from this moment on (milliseconds since 1970).
    Release(u64),
    /// Tried at this moment (milliseconds since 1970), whatever was planned.
    Retry(u64),
    /// Sent to another next hop, from this moment on (milliseconds since 1970).
    Reroute(String, u64),
    /// Not sent at all. Nobody is told.
    Cancel,
}

/// Which messages a list shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Those of this account.
    pub owner: Option<AccountId>,
    /// Those with a recipient that has this in its address, without case.
    pub recipient: Option<String>,
    /// Those with this reverse-path, without case.
    pub sender: Option<String>,
    /// Those that go to this next hop.
    pub next_hop: Option<String>,
    /// Those on hold, or those that are not.
    pub held: Option<bool>,
}

impl Selection {
    pub(super) fn shows(&self, envelope: &Envelope, tasks: &[(u16, Task)]) -> bool {
        let lower = |text: &str| text.to_lowercase();
        let recipient = |wanted: &String| {
            let wanted = lower(wanted);
            let mut all = tasks.iter().flat_map(|(_, task)| &task.recipients);
            all.any(|recipient| lower(&recipient.address).contains(&wanted))
        };
        self.owner.is_none_or(|owner| envelope.owner == Some(owner))
            && self.sender.as_ref().is_none_or(|sender| lower(sender) == lower(&envelope.reverse_path))
            && self.recipient.as_ref().is_none_or(recipient)
            && self.next_hop.as_ref().is_none_or(|hop| tasks.iter().any(|(_, task)| task.next_hop == *hop))
            && self.held.is_none_or(|held| tasks.iter().any(|(_, task)| task.held == held))
    }
}

impl QueuePlan<'_> {
    /// Does with a message what is wanted. `owner`: it must be this account's. `Unavailable` while somebody works on it:
    /// what a server is being told cannot be taken back.
    pub(crate) fn edit(&mut self, message: QueueId, edit: &Edit, owner: Option<AccountId>) -> Result<(), EngineError> {
        let missing = || EngineError::NotFound(format!("message {} is not in the queue", message.0));
        let row = self.read.get(Family::Queue, &keys::queue_envelope(message.0))?.ok_or_else(missing)?;
        let envelope = Envelope::decode(&row).ok_or_else(|| super::row::damaged("the envelope", message.0))?;
        if owner.is_some() && envelope.owner != owner {
            return Err(missing());
        }
        if !self.state.may_edit(message) {
            return Err(EngineError::Unavailable(format!("message {} is being worked on", message.0)));
        }
        let tasks = tasks_of(self.read, message)?;
        for (number, task) in &tasks {
            if !task.held {
                self.effects.before.push((task.next_hop.clone(), task.due_ms));
            }
            self.edit_task(message, *number, task, edit);
        }
        if *edit == Edit::Cancel {
            self.remove(message)?;
        }
        self.state.edits(message);
        self.effects.edited.push(message);
        Ok(())
    }

    fn edit_task(&mut self, message: QueueId, number: u16, task: &Task, edit: &Edit) {
        let mut after = task.clone();
        match edit {
            Edit::Cancel => {
                self.not_due(message, number, task);
                self.batch.delete(Family::Queue, keys::queue_task(message.0, number));
                return;
            }
            Edit::Hold => after.held = true,
            Edit::Release(now_ms) => {
                after.due_ms = if task.held { *now_ms } else { task.due_ms };
                after.held = false;
            }
            Edit::Retry(now_ms) => after.due_ms = *now_ms,
            Edit::Reroute(hop, now_ms) => {
                after.next_hop.clone_from(hop);
                after.due_ms = *now_ms;
            }
        }
        self.not_due(message, number, task);
        self.put_task(message, number, &after);
    }
}
