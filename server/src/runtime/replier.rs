//! Brings answers back to a connection, from whatever thread they were found on.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use rockdove_mail::AskId;

struct Queue<A> {
    answers: VecDeque<(AskId, A)>,
    waker: Option<Waker>,
    closed: bool,
}

struct Shared<A>(Mutex<Queue<A>>);

impl<A> Shared<A> {
    fn lock(&self) -> MutexGuard<'_, Queue<A>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sending half: one per connection, cloned into every job that will answer. Costs an `Arc`.
pub struct Replier<A>(Arc<Shared<A>>);

impl<A> Clone for Replier<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: Send> Replier<A> {
    /// Hands over one answer and wakes the connection. An answer to a connection that has gone is dropped.
    pub fn reply(&self, id: AskId, answer: A) {
        let waker = {
            let mut shared = self.0.lock();
            if shared.closed {
                return;
            }
            shared.answers.push_back((id, answer));
            shared.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<A> Replier<A> {
    /// Whether the connection has gone, so that long work for it may stop early.
    pub fn is_closed(&self) -> bool {
        self.0.lock().closed
    }
}

/// The receiving half, held by the connection's task.
pub struct Replies<A>(Arc<Shared<A>>);

impl<A> Replies<A> {
    /// The next answer; registers the task to be woken when there is none.
    pub fn poll_next(&mut self, cx: &Context<'_>) -> Poll<(AskId, A)> {
        let mut shared = self.0.lock();
        if let Some(answer) = shared.answers.pop_front() {
            if shared.answers.is_empty() {
                // An idle connection keeps no queue.
                shared.answers = VecDeque::new();
            }
            return Poll::Ready(answer);
        }
        match &shared.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => shared.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// The next answer.
    pub async fn next(&mut self) -> (AskId, A) {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }
}

impl<A> Drop for Replies<A> {
    fn drop(&mut self) {
        let dropped = {
            let mut shared = self.0.lock();
            shared.closed = true;
            (std::mem::take(&mut shared.answers), shared.waker.take())
        };
        // Answers may own much; they are freed outside the lock.
        drop(dropped);
    }
}

/// Both halves of a connection's answer queue.
pub fn pair<A>() -> (Replier<A>, Replies<A>) {
    let shared = Arc::new(Shared(Mutex::new(Queue { answers: VecDeque::new(), waker: None, closed: false })));
    (Replier(Arc::clone(&shared)), Replies(shared))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_order_and_wake_the_task_from_another_thread() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        let (replier, mut replies) = pair::<u32>();
        let other = replier.clone();
        let thread = std::thread::Builder::new()
            .spawn(move || {
                for n in 0..1000 {
                    other.reply(AskId(n), u32::try_from(n).expect("small"));
                }
            })
            .expect("thread");
        runtime.block_on(async {
            for n in 0..1000 {
                assert_eq!(replies.next().await.0, AskId(n));
            }
        });
        thread.join().expect("join");
        assert!(!replier.is_closed());
        drop(replies);
        assert!(replier.is_closed());
        replier.reply(AskId(1), 1);
    }
}
