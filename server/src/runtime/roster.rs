//! Who is connected to a worker, and how far the worker's stopping has come.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

/// How far stopping has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Running,
    /// Sessions are told to end; what was acknowledged is finished.
    Stopping,
    /// The grace time is over: connections end where they are.
    Aborting,
}

/// The connections of one worker.
pub struct Roster {
    phase: Cell<Phase>,
    next: Cell<u64>,
    wakers: RefCell<BTreeMap<u64, Waker>>,
}

impl Default for Roster {
    fn default() -> Self {
        Self { phase: Cell::new(Phase::Running), next: Cell::new(0), wakers: RefCell::default() }
    }
}

impl Roster {
    /// How far stopping has come.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.wakers.borrow().len()
    }

    /// Whether nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.wakers.borrow().is_empty()
    }

    /// Goes on to `phase` and wakes every connection to notice it.
    pub fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        for waker in self.wakers.borrow().values() {
            waker.wake_by_ref();
        }
    }

    /// Enters the calling task into the roster. The task must not be polled through a combinator with wakers of its own.
    pub async fn join(self: Rc<Self>) -> Seat {
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let number = self.next.replace(self.next.get().wrapping_add(1));
        self.wakers.borrow_mut().insert(number, waker);
        Seat { roster: self, number }
    }
}

/// A task's place in the roster; dropping it leaves.
pub struct Seat {
    roster: Rc<Roster>,
    number: u64,
}

impl Seat {
    /// How far stopping has come. The task is woken when it changes.
    pub fn phase(&self) -> Phase {
        self.roster.phase()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.roster.wakers.borrow_mut().remove(&self.number);
    }
}
