//! A timer that moves cheaply: deadlines are pushed back with every command, but rarely come.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::{Sleep, sleep_until};

use super::clock::{instant_of, monotonic_ms};

/// One alarm per connection; empty until it is first used.
#[derive(Default)]
pub struct Alarm {
    set: Option<Pin<Box<Sleep>>>,
    rings_at_ms: u64,
}

impl Alarm {
    /// Ready when the clock has reached `at_ms`. A later moment than last time does not touch the timer: it rings once
    /// in vain and is set again.
    pub fn poll_reached(&mut self, at_ms: u64, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if monotonic_ms() >= at_ms {
                return Poll::Ready(());
            }
            let timer = match &mut self.set {
                Some(timer) if self.rings_at_ms <= at_ms && !timer.is_elapsed() => timer,
                Some(timer) => {
                    self.rings_at_ms = at_ms;
                    timer.as_mut().reset(instant_of(at_ms));
                    timer
                }
                None => {
                    self.rings_at_ms = at_ms;
                    self.set.insert(Box::pin(sleep_until(instant_of(at_ms))))
                }
            };
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[test]
    fn rings_at_the_moment_asked_for_last() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("runtime");
        runtime.block_on(async {
            let mut alarm = Alarm::default();
            let start = monotonic_ms();
            poll_fn(|cx| {
                assert!(alarm.poll_reached(start + 20, cx).is_pending());
                assert!(alarm.poll_reached(start + 60_000, cx).is_pending());
                Poll::Ready(())
            })
            .await;
            poll_fn(|cx| alarm.poll_reached(start + 60, cx)).await;
            assert!((60..1000).contains(&(monotonic_ms() - start)));
            poll_fn(|cx| {
                assert!(alarm.poll_reached(start + 60_000, cx).is_pending());
                Poll::Ready(())
            })
            .await;
            let again = monotonic_ms();
            poll_fn(|cx| alarm.poll_reached(again + 10, cx)).await;
            assert!(monotonic_ms() - again < 1000);
        });
    }
}
