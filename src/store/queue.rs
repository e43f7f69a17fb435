//! A bounded queue whose waiting jobs leave together as one batch.
//!
//! A job belongs to the request that asked: when that is dropped, the job leaves the queue and its place is free. A batch
//! that is dropped puts its unanswered jobs back to the front, in order of arrival. A job whose time is up leaves the queue,
//! too; one that is under way is awaited first, so that what its client asks next comes after it.

mod batch;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::{Notify, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

use self::batch::Job;
use super::StoreError;
use crate::metrics::{Operation, StoreMetrics};

pub(super) use self::batch::Batch;

/// The most jobs in a batch: what a statement can carry without delaying its neighbours.
const MAX_BATCH: usize = 1024;

/// Each time a job is put back, it leaves in a batch this much smaller (a power of two). So a job that breaks its connection or its
/// server soon leaves alone.
const SHRINK: u32 = 4;

/// How often a job is put back until it leaves alone.
const ALONE: u32 = MAX_BATCH.ilog2().div_ceil(SHRINK);

/// Questions that wait, and the lanes that wait for them.
#[derive(Debug)]
pub(super) struct Queue<Q, A> {
    waiting: Mutex<Waiting<Q, A>>,
    capacity: usize,
    arrival: Notify,
    depth: Gauge,
    sizes: Histogram,
}

#[derive(Debug)]
struct Waiting<Q, A> {
    /// Sorted by number.
    jobs: VecDeque<Job<Q, A>>,
    next: u64,
    closed: bool,
}

/// Wakes another lane when the one that was woken gives up before it takes the jobs.
struct Relay<'a>(&'a Notify);

/// Takes a job out of the queue unless it has left.
struct Place<'a, Q, A> {
    queue: &'a Queue<Q, A>,
    number: u64,
    answered: bool,
}

impl<Q, A> Queue<Q, A> {
    /// A queue that admits new jobs while fewer than `capacity` wait.
    pub(super) fn new(capacity: usize, operation: Operation, metrics: &StoreMetrics) -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::new(Waiting { jobs: VecDeque::new(), next: 0, closed: false }),
            capacity,
            arrival: Notify::new(),
            depth: metrics.queue_depth(operation),
            sizes: metrics.batch_size(operation),
        })
    }

    /// Puts a question into the queue and waits for its answer. Dropping the future withdraws the question. After `until`
    /// it leaves in no further batch; a batch that it is in is awaited.
    ///
    /// # Errors
    ///
    /// The queue is full, or it is closed, or the time was up before there was an answer.
    pub(super) async fn ask(&self, question: Q, until: Option<Instant>) -> Result<A, StoreError> {
        self.wait(question, until, self.capacity, 0).await
    }

    /// The same for a question that was admitted before and could not be answered: a full queue does not refuse it, and it
    /// leaves alone.
    ///
    /// # Errors
    ///
    /// The queue is closed, or the time was up before there was an answer.
    pub(super) async fn ask_again(&self, question: Q, until: Option<Instant>) -> Result<A, StoreError> {
        self.wait(question, until, usize::MAX, ALONE).await
    }

    async fn wait(&self, question: Q, until: Option<Instant>, capacity: usize, put_back: u32) -> Result<A, StoreError> {
        let (reply, mut answer) = oneshot::channel();
        let number = self.change(|waiting| {
            if waiting.closed {
                return Err(StoreError::Unavailable);
            }
            if waiting.jobs.len() >= capacity {
                return Err(StoreError::QueueFull);
            }
            let number = waiting.next;
            waiting.next += 1;
            waiting.jobs.push_back(Job { question, reply, number, put_back, until });
            // One lane is woken: a second one would at once send the few jobs that the first has just missed.
            if waiting.jobs.len() == 1 {
                self.arrival.notify_one();
            }
            Ok(number)
        })?;
        let mut place = Place { queue: self, number, answered: false };
        let answered = match until {
            None => answer.await,
            Some(until) => match timeout_at(until, &mut answer).await {
                Ok(answered) => answered,
                Err(_) if self.withdraw(number) => return Err(StoreError::OutOfPatience),
                Err(_) => answer.await,
            },
        };
        place.answered = true;
        answered.map_err(|_| if until.is_some() { StoreError::OutOfPatience } else { StoreError::Unavailable })
    }

    /// Waits for jobs and takes those that wait, in order of arrival. No job is lost when the future is dropped. `None` once
    /// the queue is closed and empty.
    pub(super) async fn batch(self: &Arc<Self>) -> Option<Batch<Q, A>> {
        loop {
            let (is_empty, is_closed) = self.change(|waiting| (waiting.jobs.is_empty(), waiting.closed));
            if is_empty && is_closed {
                return None;
            }
            if is_empty {
                self.arrival.notified().await;
                continue;
            }
            let relay = Relay(&self.arrival);
            // First the runtime reads the requests whose bytes have already arrived, so that they join this batch.
            yield_now().await;
            std::mem::forget(relay);
            let jobs = self.take();
            if !jobs.is_empty() {
                #[expect(clippy::cast_precision_loss, reason = "a batch has at most 1,024 jobs")]
                self.sizes.observe(jobs.len() as f64);
                return Some(Batch::new(jobs, self));
            }
        }
    }

    /// Closes the queue: no job is admitted any more, and `batch` returns `None` once the queue is empty.
    pub(super) fn close(&self) {
        self.change(|waiting| waiting.closed = true);
        self.arrival.notify_waiters();
        self.arrival.notify_one();
    }

    /// The next batch, as small as its jobs require.
    fn take(&self) -> Vec<Job<Q, A>> {
        self.change(|waiting| {
            let mut most = MAX_BATCH;
            let fits = |(before, job): &(usize, &Job<Q, A>)| {
                most = most.min(MAX_BATCH >> (job.put_back.min(ALONE) * SHRINK).min(MAX_BATCH.ilog2()));
                *before < most
            };
            let size = waiting.jobs.iter().enumerate().take_while(fits).count();
            let jobs = waiting.jobs.drain(..size).collect();
            if !waiting.jobs.is_empty() {
                self.arrival.notify_one();
            }
            jobs
        })
    }

    fn put_back(&self, jobs: impl Iterator<Item = Job<Q, A>>) {
        self.change(|waiting| {
            for mut job in jobs.filter(|job| !job.is_over()) {
                job.put_back += 1;
                let place = waiting.jobs.partition_point(|other| other.number < job.number);
                waiting.jobs.insert(place, job);
            }
        });
        self.arrival.notify_one();
    }

    /// Takes a job out of the queue; false if it is under way.
    fn withdraw(&self, number: u64) -> bool {
        self.change(|waiting| {
            let place = waiting.jobs.binary_search_by_key(&number, |job| job.number);
            place.map(|place| waiting.jobs.remove(place)).is_ok()
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Waiting<Q, A>) -> T) -> T {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut waiting);
        self.depth.set(i64::try_from(waiting.jobs.len()).unwrap_or(i64::MAX));
        result
    }
}

impl Drop for Relay<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl<Q, A> Drop for Place<'_, Q, A> {
    fn drop(&mut self) {
        if !self.answered {
            self.queue.withdraw(self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use tokio::time::sleep_until;

    use super::*;

    type Asking<'a> = Pin<Box<dyn Future<Output = Result<u8, StoreError>> + 'a>>;

    fn queue(capacity: usize) -> Arc<Queue<u8, u8>> {
        Queue::new(capacity, Operation::Read, &StoreMetrics::register(&mut crate::metrics::registry()))
    }

    fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// A question that waits in the queue.
    fn ask(queue: &Queue<u8, u8>, question: u8) -> Asking<'_> {
        let mut asking: Asking<'_> = Box::pin(queue.ask(question, None));
        assert!(poll(asking.as_mut()).is_pending());
        asking
    }

    async fn next(queue: &Arc<Queue<u8, u8>>) -> (Vec<u8>, Option<Batch<u8, u8>>) {
        let batch = queue.batch().await;
        (batch.iter().flat_map(|batch| batch.iter()).map(|job| job.question).collect(), batch)
    }

    #[tokio::test]
    async fn waiting_jobs_leave_together_in_order_and_get_their_answers() {
        let queue = queue(2);
        let (first, second) = (ask(&queue, 1), ask(&queue, 2));
        let (questions, batch) = next(&queue).await;
        assert_eq!(questions, [1, 2]);
        let mut answers = [10, 20].into_iter();
        batch.into_iter().for_each(|batch| batch.answer(|| answers.next().unwrap_or_default()));
        assert_eq!((first.await, second.await), (Ok(10), Ok(20)));
    }

    #[tokio::test]
    async fn jobs_that_arrive_with_the_first_join_it_and_none_is_lost_with_a_dropped_future() {
        let queue = queue(2);
        let _first = ask(&queue, 1);
        assert!(poll(pin!(queue.batch())).is_pending());
        let mut batch = pin!(queue.batch());
        assert!(poll(batch.as_mut()).is_pending());
        let _second = ask(&queue, 2);
        assert_eq!(batch.await.map(|batch| batch.len()), Some(2));
    }

    #[tokio::test]
    async fn a_lane_that_gives_up_before_it_takes_the_jobs_wakes_another_one() {
        let queue = queue(2);
        let (mut first, mut second) = (Box::pin(queue.batch()), Box::pin(queue.batch()));
        assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        let _asking = ask(&queue, 1);
        // Woken, it lets the runtime read what else has arrived.
        assert!(poll(first.as_mut()).is_pending());
        drop(first);
        assert!(second.await.is_some());
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_until_a_batch_leaves_or_a_client_does() {
        let queue = queue(2);
        let (first, _second) = (ask(&queue, 1), ask(&queue, 2));
        assert_eq!(queue.ask(3, None).await, Err(StoreError::QueueFull));
        drop(first);
        let _third = ask(&queue, 3);
        assert_eq!(queue.ask(4, None).await, Err(StoreError::QueueFull));
        let (questions, _batch) = next(&queue).await;
        assert_eq!(questions, [2, 3]);
        let _fourth = ask(&queue, 4);
    }

    #[tokio::test]
    async fn a_batch_that_is_dropped_comes_back_first_and_smaller_without_the_clients_that_left() {
        let queue = queue(2000);
        let mut waiting: Vec<_> = (0..100).map(|question| ask(&queue, question)).collect();
        let (questions, batch) = next(&queue).await;
        assert_eq!(questions.len(), 100);
        waiting.push(ask(&queue, 100));
        drop(waiting.remove(0));
        drop(batch);
        let (questions, batch) = next(&queue).await;
        assert_eq!((questions.first(), questions.len()), (Some(&1), MAX_BATCH >> SHRINK));
        drop(batch);
        let (questions, _batch) = next(&queue).await;
        assert_eq!(questions, [1, 2, 3, 4]);
    }

    #[tokio::test]
    async fn a_job_whose_time_is_up_leaves_the_queue_and_one_under_way_is_awaited_but_not_sent_again() {
        let queue = queue(2);
        let soon = || Instant::now() + Duration::from_millis(20);
        assert_eq!(queue.ask(1, Some(soon())).await, Err(StoreError::OutOfPatience));
        assert!(queue.waiting.lock().is_ok_and(|waiting| waiting.jobs.is_empty()));
        for answer in [Some(10), None] {
            let until = soon();
            let mut asking = pin!(queue.ask(2, Some(until)));
            assert!(poll(asking.as_mut()).is_pending());
            let (_, batch) = next(&queue).await;
            sleep_until(until).await;
            assert!(poll(asking.as_mut()).is_pending());
            batch.into_iter().for_each(|batch| answer.map_or((), |answer| batch.answer(|| answer)));
            assert_eq!(asking.await, answer.ok_or(StoreError::OutOfPatience));
            assert!(queue.waiting.lock().is_ok_and(|waiting| waiting.jobs.is_empty()));
        }
    }

    #[tokio::test]
    async fn a_divided_batch_keeps_its_order_and_puts_back_what_was_not_answered() {
        let queue = queue(9);
        let mut waiting: Vec<_> = (0..7).map(|question| ask(&queue, question)).collect();
        let (_, batch) = next(&queue).await;
        let mut parts = batch.map(|batch| batch.divide(3)).unwrap_or_default();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [1, 3, 3]);
        parts.pop().into_iter().for_each(|part| part.answer(|| 9));
        drop(parts);
        assert_eq!(waiting.remove(0).await, Ok(9));
        let (questions, _batch) = next(&queue).await;
        assert_eq!(questions, [3, 4, 5, 6]);
    }

    #[tokio::test]
    async fn what_was_admitted_before_is_not_refused_by_a_full_queue_and_leaves_alone() {
        let queue = queue(2);
        let (_first, _second) = (ask(&queue, 1), ask(&queue, 2));
        let mut again = pin!(queue.ask_again(3, None));
        assert!(poll(again.as_mut()).is_pending());
        let (questions, _batch) = next(&queue).await;
        assert_eq!(questions, [1, 2]);
        let _fourth = ask(&queue, 4);
        let (questions, batch) = next(&queue).await;
        assert_eq!((questions, batch.is_some_and(|batch| batch.is_last_resort())), (vec![3], true));
    }

    #[tokio::test]
    async fn a_closed_queue_admits_nothing_and_ends_once_it_is_empty() {
        let queue = queue(2);
        let _first = ask(&queue, 1);
        queue.close();
        assert_eq!(queue.ask(2, None).await, Err(StoreError::Unavailable));
        let (questions, _batch) = next(&queue).await;
        assert_eq!(questions, [1]);
        assert!(queue.batch().await.is_none());
    }
}
