//! Bounded queues whose waiting jobs leave together as one batch.

use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::yield_now;

use super::StoreError;
use crate::metrics::{Operation, StoreMetrics};

/// The most jobs in a batch: what a statement can carry without holding its neighbours up.
const MAX_BATCH: usize = 1024;

/// A question with the place for its answer. Dropping a job tells its asker to ask again.
#[derive(Debug)]
pub(super) struct Job<Q, A> {
    pub(super) question: Q,
    reply: oneshot::Sender<A>,
}

impl<Q, A> Job<Q, A> {
    /// Answers the asker, who may have left meanwhile.
    pub(super) fn answer(self, answer: A) {
        let _ = self.reply.send(answer);
    }
}

/// Where jobs enter.
#[derive(Debug)]
pub(super) struct Entrance<Q, A> {
    jobs: mpsc::Sender<Job<Q, A>>,
    depth: Gauge,
}

/// Where batches leave; several lanes may share it.
#[derive(Debug)]
pub(super) struct Exit<Q, A> {
    waiting: Arc<Mutex<Waiting<Q, A>>>,
    depth: Gauge,
    sizes: Histogram,
}

/// The jobs of a queue.
#[derive(Debug)]
struct Waiting<Q, A> {
    jobs: mpsc::Receiver<Job<Q, A>>,
    /// The beginning of the next batch.
    batch: Vec<Job<Q, A>>,
}

/// A queue that holds at most `capacity` jobs, besides a batch that is about to leave.
pub(super) fn queue<Q, A>(
    capacity: usize,
    operation: Operation,
    metrics: &StoreMetrics,
) -> (Entrance<Q, A>, Exit<Q, A>) {
    let (sender, receiver) = mpsc::channel(capacity);
    let depth = metrics.queue_depth(operation);
    let entrance = Entrance { jobs: sender, depth: depth.clone() };
    let waiting = Arc::new(Mutex::new(Waiting { jobs: receiver, batch: Vec::new() }));
    (entrance, Exit { waiting, depth, sizes: metrics.batch_size(operation) })
}

impl<Q, A> Entrance<Q, A> {
    /// Puts a question into the queue; its answer arrives at the receiver, or the receiver fails if a lane gave it up.
    ///
    /// # Errors
    ///
    /// The queue is full, or nobody serves it any more.
    pub(super) fn ask(&self, question: Q) -> Result<oneshot::Receiver<A>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(Job { question, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::QueueFull,
            mpsc::error::TrySendError::Closed(_) => StoreError::Unavailable,
        })?;
        self.depth.inc();
        Ok(answer)
    }

    /// Puts a question that a lane gave up into the queue again. It was admitted once, so a full queue does not refuse it: it
    /// waits for the next free place, before all that come new.
    ///
    /// # Errors
    ///
    /// Nobody serves the queue any more.
    pub(super) async fn ask_again(&self, question: Q) -> Result<oneshot::Receiver<A>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job { question, reply }).await.map_err(|_| StoreError::Unavailable)?;
        self.depth.inc();
        Ok(answer)
    }
}

impl<Q, A> Exit<Q, A> {
    /// Waits for jobs and takes all that wait, in order of arrival, without those whose askers left.
    /// Cancel-safe: no job is lost when the future is dropped. `None` once the entrance is gone.
    pub(super) async fn batch(&self) -> Option<Vec<Job<Q, A>>> {
        loop {
            let mut batch = self.gather().await?;
            self.depth.dec_by(i64::try_from(batch.len()).unwrap_or(0));
            batch.retain(|job| !job.reply.is_closed());
            if !batch.is_empty() {
                #[expect(clippy::cast_precision_loss, reason = "a batch has at most 1,024 jobs")]
                self.sizes.observe(batch.len() as f64);
                return Some(batch);
            }
        }
    }

    /// All that wait, and what arrived with the first of them: requests whose bytes are here already are read before a batch
    /// leaves, instead of following it in one of their own.
    async fn gather(&self) -> Option<Vec<Job<Q, A>>> {
        let mut waiting = self.waiting.lock().await;
        let Waiting { jobs, batch } = &mut *waiting;
        // Not empty where the future was dropped below.
        if batch.is_empty() && jobs.recv_many(batch, MAX_BATCH).await == 0 {
            return None;
        }
        yield_now().await;
        while batch.len() < MAX_BATCH
            && let Ok(job) = jobs.try_recv()
        {
            batch.push(job);
        }
        Some(std::mem::take(batch))
    }
}

impl<Q, A> Clone for Exit<Q, A> {
    fn clone(&self) -> Self {
        Self { waiting: self.waiting.clone(), depth: self.depth.clone(), sizes: self.sizes.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    fn small_queue() -> (Entrance<u8, u8>, Exit<u8, u8>) {
        queue(2, Operation::Read, &StoreMetrics::register(&mut crate::metrics::registry()))
    }

    #[tokio::test]
    async fn waiting_jobs_leave_together_in_order_without_those_whose_askers_left() -> Result<(), StoreError> {
        let (entrance, exit) = small_queue();
        let first = entrance.ask(1)?;
        drop(entrance.ask(2)?);
        let batch = exit.batch().await.unwrap_or_default();
        assert_eq!(batch.iter().map(|job| job.question).collect::<Vec<_>>(), [1]);
        batch.into_iter().for_each(|job| job.answer(10));
        assert_eq!(first.await, Ok(10));
        Ok(())
    }

    #[tokio::test]
    async fn jobs_that_arrive_with_the_first_join_it_and_none_is_lost_with_a_dropped_future() -> Result<(), StoreError>
    {
        let (entrance, exit) = small_queue();
        let _first = entrance.ask(1)?;
        {
            let mut dropped = std::pin::pin!(exit.batch());
            assert!(dropped.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        let mut batch = std::pin::pin!(exit.batch());
        assert!(batch.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let _second = entrance.ask(2)?;
        let questions = batch.await.unwrap_or_default();
        assert_eq!(questions.iter().map(|job| job.question).collect::<Vec<_>>(), [1, 2]);
        Ok(())
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_takes_again_when_emptied() -> Result<(), StoreError> {
        let (entrance, exit) = small_queue();
        let _waiting = (entrance.ask(1)?, entrance.ask(2)?);
        assert_eq!(entrance.ask(3).map(drop), Err(StoreError::QueueFull));
        drop(exit.batch().await);
        entrance.ask(3).map(drop)
    }

    #[tokio::test]
    async fn a_dropped_job_tells_its_asker() -> Result<(), StoreError> {
        let (entrance, exit) = small_queue();
        let answer = entrance.ask(1)?;
        drop(exit.batch().await);
        assert!(answer.await.is_err());
        Ok(())
    }

    #[tokio::test]
    async fn a_question_that_was_given_up_waits_for_a_place_in_a_full_queue_and_gets_the_next_one()
    -> Result<(), StoreError> {
        let (entrance, exit) = small_queue();
        let (_first, _second) = (entrance.ask(1)?, entrance.ask(2)?);
        let mut again = std::pin::pin!(entrance.ask_again(3));
        assert!(again.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(exit.batch().await);
        let (_third, _fourth) = (again.await?, entrance.ask(4)?);
        let questions = exit.batch().await.unwrap_or_default();
        assert_eq!(questions.iter().map(|job| job.question).collect::<Vec<_>>(), [3, 4]);
        Ok(())
    }
}
