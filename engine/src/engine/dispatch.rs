//! Planning: what each command does to which accounts, handed to the committer.

use std::{
    collections::BTreeMap,
    sync::{Arc, MutexGuard},
};

use rockdove_mail::MetadataScope;

use super::{Done, Engine};
use crate::{
    command::{AccountId, Command, Delivered, Delivery, EngineError, MailboxId, Outcome, QuotaLimits},
    directory,
    queue::{Decided, Edit, Outbound, QueueId, QueuePlan, Settled},
    rights::Actor,
    store::{
        StagedMessage,
        account::{AccountSlot, Planner},
        annotations::AnnotationChange,
        commit::Plan,
        plan::AccountPlan,
    },
};

/// What leaves, what came of what left, and what is kept apart no longer.
#[derive(Clone, Copy, Default)]
struct Leaving<'a> {
    outbound: &'a [Outbound],
    settled: &'a [Settled],
    decided: Option<&'a Decided>,
}

fn nothing_to_send() -> EngineError {
    EngineError::Invalid("there is no message to deliver".to_owned())
}

/// When a command was given, and by whom.
pub(crate) struct By {
    pub(crate) now_unix_s: i64,
    /// `None`: the server itself.
    pub(crate) actor: Option<Actor>,
}

impl Engine {
    /// Finds out who gives a command, then plans it.
    pub(super) fn queue_as(
        &self,
        now_unix_s: i64,
        command: Command,
        done: &mut Option<Done>,
    ) -> Result<(), EngineError> {
        let Command::As { actor, command } = command else {
            return self.plan(&By { now_unix_s, actor: None }, command, done);
        };
        let directory = self.directory.published();
        if directory.account(actor).is_none() {
            return Err(EngineError::NotFound(format!("account {}", actor.0)));
        }
        let actor = Actor::new(&directory, actor);
        let administrates = matches!(*command, Command::SetQuotaLimits { .. }) && actor.is_administrator;
        if !administrates && !is_about_mail(&command) {
            return Err(EngineError::NoPermission("this is for administrators".to_owned()));
        }
        self.plan(&By { now_unix_s, actor: Some(actor) }, *command, done)
    }

    /// Plans a command and queues it; takes `done` when it did.
    fn plan(&self, now: &By, command: Command, done: &mut Option<Done>) -> Result<(), EngineError> {
        match command {
            Command::SetRights { account, mailbox, identifier, update, rights } => {
                let directory = self.directory.published();
                self.on_account(now, account, done, |plan| {
                    plan.set_rights(&directory, mailbox, &identifier, (update, rights))
                })
            }
            Command::Annotate { account, mailbox, entries } => self.annotate(now, (account, mailbox), &entries, done),
            Command::CopyAcross { account, from, uids, to_account, to, remove } => {
                self.copy_across(now, (account, from, &uids), (to_account, to), remove, done)
            }
            Command::CreateMailbox { account, name, special_use } => {
                let limits = self.limits_of(account);
                self.on_account(now, account, done, |plan| plan.create(&name, special_use, limits))
            }
            Command::DeleteMailbox { account, name } => {
                let keeps = self.options.undelete_s > 0;
                self.on_account(now, account, done, |plan| plan.delete(&name, keeps))
            }
            Command::RenameMailbox { account, from, to } => {
                self.on_account(now, account, done, |plan| plan.rename_mailbox(&from, &to))
            }
            Command::Subscribe { account, name, subscribed } => {
                if now.actor.as_ref().is_some_and(|actor| actor.account != account) {
                    return Err(EngineError::NoPermission("subscriptions are everybody's own".to_owned()));
                }
                self.on_account(now, account, done, |plan| plan.set_subscribed(&name, subscribed))
            }
            Command::Deliver { message, deliveries } => self.dispatch(now, Some(&message), &deliveries, None, done),
            Command::Append { account, mailbox, messages } => {
                let limits = self.limits_of(account);
                self.on_account(now, account, done, |plan| plan.append_all(mailbox, &messages, limits))
            }
            Command::Replace { account, mailbox, message, from_account, from, uid } => {
                self.replace(now, (account, mailbox), &message, (from_account, from, uid), done)
            }
            Command::StoreFlags { account, mailbox, uids, update, flags, unchanged_since } => {
                self.on_account(now, account, done, |plan| {
                    plan.store_flags(mailbox, &uids, (update, &flags), unchanged_since)
                })
            }
            Command::Copy { account, from, uids, to } => {
                let limits = self.limits_of(account);
                self.on_account(now, account, done, |plan| plan.copy(from, &uids, to, limits))
            }
            Command::Move { account, from, uids, to } => {
                self.on_account(now, account, done, |plan| plan.move_to(from, &uids, to))
            }
            Command::Expunge { account, mailbox, uids, deleted_only } => {
                let keeps = self.options.undelete_s > 0;
                self.on_account(now, account, done, |plan| {
                    plan.expunge_some(mailbox, uids.as_ref(), deleted_only, keeps)
                })
            }
            other => self.plan_rest(now, other, done),
        }
    }

    /// Commands of administrators, and about mail that leaves.
    fn plan_rest(&self, now: &By, command: Command, done: &mut Option<Done>) -> Result<(), EngineError> {
        match command {
            Command::Dispatch { message, deliveries, outbound, settled } => {
                let leaving = Leaving { outbound: &outbound, settled: &settled, decided: None };
                self.dispatch(now, message.as_ref(), &deliveries, Some(leaving), done)
            }
            Command::Quarantine { message, suspect } => {
                let staged = vec![Arc::clone(&message)];
                let beside = || Plan { staged, ..Plan::default() };
                self.on_queue_of(now, beside, done, |plan| {
                    plan.quarantine(&suspect, &message).map(Outcome::Quarantined)
                })
            }
            Command::Release { decided, message, deliveries, outbound } => {
                let leaving = Leaving { outbound: &outbound, settled: &[], decided: Some(&decided) };
                self.dispatch(now, Some(&message), &deliveries, Some(leaving), done)
            }
            Command::Discard(decided) => {
                self.on_queue_of(now, Plan::default, done, |plan| plan.decide(&decided).map(|()| Outcome::Done))
            }
            Command::EditQueue { message, edit, owner } => self.edit_queue(now, message, &edit, owner, done),
            Command::Restore { account, which, to } => {
                let limits = self.limits_of(account);
                self.on_account(now, account, done, |plan| plan.restore(&which, to.as_ref(), limits))
            }
            Command::Purge { account, everything } => {
                let limits = (!everything).then(|| self.undelete_limits(now.now_unix_s));
                self.on_account(now, account, done, |plan| plan.purge(limits))
            }
            directory => self.on_directory(now.now_unix_s, &directory, done),
        }
    }

    pub(crate) fn push(&self, plan: Plan, outcome: Outcome, done: &mut Option<Done>) {
        if let Some(done) = done.take() {
            self.committer.push(plan, outcome, done);
        }
    }

    /// Plans a change of one account.
    pub(crate) fn on_account(
        &self,
        by: &By,
        account: AccountId,
        done: &mut Option<Done>,
        work: impl FnOnce(&mut AccountPlan<'_>) -> Result<Outcome, EngineError>,
    ) -> Result<(), EngineError> {
        let slot = self.slot(account);
        let mut planner = slot.lock();
        let mut plan = AccountPlan::begin(&self.kv, by.now_unix_s, &slot, &mut planner)?;
        plan.actor.clone_from(&by.actor);
        let outcome = work(&mut plan)?;
        plan.prepare()?;
        let staged = plan.take_staged();
        let (batch, touch) = plan.conclude();
        self.push(Plan { batch, touches: vec![touch], directory: None, staged }, outcome, done);
        Ok(())
    }

    /// Plans a delivery: all its accounts are locked, in ascending order, then the queue.
    fn dispatch(
        &self,
        by: &By,
        message: Option<&Arc<StagedMessage>>,
        deliveries: &[Delivery],
        leaving: Option<Leaving<'_>>,
        done: &mut Option<Done>,
    ) -> Result<(), EngineError> {
        let mut by_account: BTreeMap<AccountId, Vec<usize>> = BTreeMap::new();
        for (number, delivery) in deliveries.iter().enumerate() {
            by_account.entry(delivery.account).or_default().push(number);
        }
        let slots: Vec<Arc<AccountSlot>> = by_account.keys().map(|account| self.slot(*account)).collect();
        let mut planners: Vec<MutexGuard<'_, Planner>> = slots.iter().map(|slot| slot.lock()).collect();
        let notes = leaving.is_some_and(|leaving| !leaving.settled.is_empty());
        let mut plans = Vec::with_capacity(slots.len());
        let mut delivered: Vec<Option<Delivered>> = vec![None; deliveries.len()];
        for ((slot, planner), numbers) in slots.iter().zip(&mut planners).zip(by_account.values()) {
            // A report to a full mailbox must not keep from being noted what it reports.
            let limits = if notes { QuotaLimits::default() } else { self.limits_of(slot.id) };
            let mut plan = AccountPlan::begin(&self.kv, by.now_unix_s, slot, planner)?;
            for number in numbers {
                let message = message.ok_or_else(nothing_to_send)?;
                delivered[*number] = Some(plan.deliver(message, &deliveries[*number], limits)?);
            }
            plan.prepare()?;
            plans.push(plan);
        }
        let leaves = leaving.is_some_and(|leaving| !leaving.outbound.is_empty());
        let staged = message.filter(|_| leaves || !plans.is_empty()).cloned().into_iter().collect();
        let delivered = delivered.into_iter().flatten().collect();
        // Nothing may fail once an account is concluded.
        let conclude = move || {
            let mut joined = Plan { staged, ..Plan::default() };
            for plan in plans {
                let (mut batch, touch) = plan.conclude();
                joined.batch.changes.append(&mut batch.changes);
                joined.touches.push(touch);
            }
            joined
        };
        let Some(Leaving { outbound, settled, decided }) = leaving else {
            self.push(conclude(), Outcome::Delivered(delivered), done);
            return Ok(());
        };
        self.on_queue_of(by, conclude, done, |plan| {
            settled.iter().try_for_each(|settled| plan.settle(settled))?;
            decided.into_iter().try_for_each(|decided| plan.decide(decided))?;
            let mut queued = Vec::with_capacity(outbound.len());
            for outbound in outbound {
                queued.push(plan.enqueue(outbound, message.ok_or_else(nothing_to_send)?)?);
            }
            Ok(Outcome::Dispatched { delivered, queued })
        })
    }

    /// Plans something with mail that waits to leave.
    fn edit_queue(
        &self,
        by: &By,
        message: QueueId,
        edit: &Edit,
        owner: Option<AccountId>,
        done: &mut Option<Done>,
    ) -> Result<(), EngineError> {
        self.on_queue_of(by, Plan::default, done, |plan| plan.edit(message, edit, owner).map(|()| Outcome::Done))
    }

    /// Plans a change of the queue beside what is planned. Its memory learns of it when it is durable.
    fn on_queue_of(
        &self,
        by: &By,
        beside: impl FnOnce() -> Plan,
        done: &mut Option<Done>,
        work: impl FnOnce(&mut QueuePlan<'_>) -> Result<Outcome, EngineError>,
    ) -> Result<(), EngineError> {
        let mut state = self.queue.lock();
        let mut plan = QueuePlan::new(&mut state, &*self.kv, by.now_unix_s);
        let planned = work(&mut plan);
        let QueuePlan { mut batch, effects, .. } = plan;
        let outcome = match planned {
            Ok(outcome) => outcome,
            Err(error) => {
                drop(state);
                self.queue.committed(&effects, false);
                return Err(error);
            }
        };
        let mut joined = beside();
        joined.batch.changes.append(&mut batch.changes);
        let queue = Arc::clone(&self.queue);
        if let Some(done) = done.take() {
            let told = move |outcome: Result<Outcome, EngineError>| {
                queue.committed(&effects, outcome.is_ok());
                done(outcome);
            };
            // Under the lock of the queue, so that the rows of later plans are written later.
            self.committer.push(joined, outcome, Box::new(told));
        }
        drop(state);
        Ok(())
    }

    /// Plans a change of annotations of a mailbox or of the server.
    fn annotate(
        &self,
        by: &By,
        (account, mailbox): (AccountId, Option<MailboxId>),
        entries: &[AnnotationChange],
        done: &mut Option<Done>,
    ) -> Result<(), EngineError> {
        match mailbox {
            Some(mailbox) => self.on_account(by, account, done, |plan| plan.annotate(mailbox, entries)),
            None => self.annotate_server(by, account, entries, done),
        }
    }

    /// Plans a change of annotations of the server: shared ones are in the directory, private ones in the account.
    fn annotate_server(
        &self,
        by: &By,
        account: AccountId,
        entries: &[AnnotationChange],
        done: &mut Option<Done>,
    ) -> Result<(), EngineError> {
        if by.actor.as_ref().is_some_and(|actor| actor.account != account) {
            return Err(EngineError::NoPermission("private annotations are everybody's own".to_owned()));
        }
        let (shared, private): (Vec<_>, Vec<_>) =
            entries.iter().partition(|(entry, _)| entry.scope() == MetadataScope::Shared);
        if shared.is_empty() {
            return self.on_account(by, account, done, |plan| plan.annotate_server(&private).map(|()| Outcome::Done));
        }
        //= rfc5464#section-3.3
        //# Servers MAY restrict the creation of private or shared
        //# server annotations as appropriate.
        if by.actor.as_ref().is_some_and(|actor| !actor.is_administrator) {
            return Err(EngineError::NoPermission("this is for administrators".to_owned()));
        }
        let mut newest = self.directory.lock();
        let (next, batch) = newest.annotated(&shared)?;
        let slot = self.slot(account);
        let mut planner = slot.lock();
        let mut own = AccountPlan::begin(&self.kv, by.now_unix_s, &slot, &mut planner)?;
        own.annotate_server(&private)?;
        own.prepare()?;
        let mut plan = Plan { batch, ..Plan::default() };
        let (mut batch, touch) = own.conclude();
        plan.batch.changes.append(&mut batch.changes);
        plan.touches.push(touch);
        plan.directory = Some((self.directory.epoch(), next.clone()));
        *newest = next;
        self.push(plan, Outcome::Done, done);
        Ok(())
    }

    /// Plans a change of the directory, and the account that comes or goes with it.
    fn on_directory(&self, now: i64, command: &Command, done: &mut Option<Done>) -> Result<(), EngineError> {
        let mut newest = self.directory.lock();
        let planned = directory::plan(command, &newest, now)?;
        let mut plan = Plan { batch: planned.batch, ..Plan::default() };
        let add = |plan: &mut Plan, account: AccountPlan<'_>| {
            let (mut batch, touch) = account.conclude();
            plan.batch.changes.append(&mut batch.changes);
            plan.touches.push(touch);
        };
        let slot = planned.created.or(planned.removed).map(|account| self.slot(account));
        let mut planner = slot.as_ref().map(|slot| slot.lock());
        if let (Some(slot), Some(planner)) = (&slot, &mut planner) {
            let mut account = if planned.created.is_some() {
                let mut account = AccountPlan::begin_new(&self.kv, now, slot, planner);
                account.set_up()?;
                account
            } else {
                let mut account = AccountPlan::begin(&self.kv, now, slot, planner)?;
                account.remove_account();
                account
            };
            account.prepare()?;
            add(&mut plan, account);
        }
        plan.directory = Some((self.directory.epoch(), planned.next.clone()));
        *newest = planned.next;
        self.push(plan, planned.outcome, done);
        Ok(())
    }
}

/// Whether an account may give the command at all, for its own mailboxes and others that it has rights to.
fn is_about_mail(command: &Command) -> bool {
    matches!(
        command,
        Command::CreateMailbox { .. }
            | Command::DeleteMailbox { .. }
            | Command::RenameMailbox { .. }
            | Command::Subscribe { .. }
            | Command::Append { .. }
            | Command::Replace { .. }
            | Command::StoreFlags { .. }
            | Command::Copy { .. }
            | Command::Move { .. }
            | Command::CopyAcross { .. }
            | Command::SetRights { .. }
            | Command::Annotate { .. }
            | Command::Expunge { .. }
    )
}
