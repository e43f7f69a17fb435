//! A bounded queue whose waiting jobs leave together as one batch.
//!
//! A job belongs to the request that asked: when that is dropped, the job leaves the queue and its place is free. A batch
//! that is dropped puts its unanswered jobs back to the front, in order of arrival. A job whose time is up leaves the queue,
//! too; one that is under way is awaited first, so that what its client asks next comes after it.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::{Notify, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use super::StoreError;
use crate::metrics::{Operation, StoreMetrics};

/// The most jobs in a batch: what a statement can carry without delaying its neighbours.
const MAX_BATCH: usize = 1024;

/// Each time a job is put back, it leaves in a batch this much smaller (a power of two): what one job does to its
/// connection or its server is soon done to that job alone.
const SHRINK: u32 = 4;

/// How often a job is put back until it leaves alone.
const ALONE: u32 = MAX_BATCH.ilog2().div_ceil(SHRINK);

/// A question with the place for its answer.
#[derive(Debug)]
pub(super) struct Job<Q, A> {
    pub(super) question: Q,
    reply: oneshot::Sender<A>,
    /// Its place in the order of arrival.
    number: u64,
    /// How often a batch with it was dropped.
    put_back: u32,
    /// When it may no longer leave in a batch.
    until: Option<Instant>,
}

impl<Q, A> Job<Q, A> {
    /// Whether nobody waits for it, or its time is up.
    fn is_over(&self) -> bool {
        self.reply.is_closed() || self.until.is_some_and(|until| Instant::now() >= until)
    }
}

/// A queue; clones share it.
#[derive(Debug)]
pub(super) struct Queue<Q, A>(Arc<Shared<Q, A>>);

#[derive(Debug)]
struct Shared<Q, A> {
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

/// Jobs that left the queue together, in order of arrival.
#[derive(Debug)]
pub(super) struct Batch<Q, A> {
    jobs: Vec<Job<Q, A>>,
    queue: Queue<Q, A>,
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
    pub(super) fn new(capacity: usize, operation: Operation, metrics: &StoreMetrics) -> Self {
        Self(Arc::new(Shared {
            waiting: Mutex::new(Waiting { jobs: VecDeque::new(), next: 0, closed: false }),
            capacity,
            arrival: Notify::new(),
            depth: metrics.queue_depth(operation),
            sizes: metrics.batch_size(operation),
        }))
    }

    /// Puts a question into the queue and waits for its answer. Dropping the future withdraws the question. After `until`
    /// it leaves in no further batch; a batch that it is in is awaited.
    ///
    /// # Errors
    ///
    /// The queue is full, or it is closed, or the time was up before there was an answer.
    pub(super) async fn ask(&self, question: Q, until: Option<Instant>) -> Result<A, StoreError> {
        self.admit(question, until, self.0.capacity, 0)?.await
    }

    /// The same for a question that was admitted before and could not be answered: a full queue does not refuse it, and it
    /// leaves alone.
    ///
    /// # Errors
    ///
    /// The queue is closed, or the time was up before there was an answer.
    pub(super) async fn ask_again(&self, question: Q, until: Option<Instant>) -> Result<A, StoreError> {
        self.admit(question, until, usize::MAX, ALONE)?.await
    }

    fn admit(
        &self,
        question: Q,
        until: Option<Instant>,
        capacity: usize,
        put_back: u32,
    ) -> Result<impl Future<Output = Result<A, StoreError>>, StoreError> {
        let (reply, mut answer) = oneshot::channel();
        let mut waiting = self.waiting();
        if waiting.closed {
            return Err(StoreError::Unavailable);
        }
        if waiting.jobs.len() >= capacity {
            return Err(StoreError::QueueFull);
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.jobs.push_back(Job { question, reply, number, put_back, until });
        // One lane gathers at a time: a second one would leave at once with what the first has just missed.
        if waiting.jobs.len() == 1 {
            self.0.arrival.notify_one();
        }
        drop(waiting);
        self.0.depth.inc();
        let place = Place { queue: self, number, answered: false };
        Ok(async move {
            let mut place = place;
            let in_time = match until {
                None => (&mut answer).await,
                Some(until) => tokio::select! {
                    biased;
                    answer = &mut answer => answer,
                    () = sleep_until(until) => {
                        if place.queue.withdraw(place.number) {
                            return Err(StoreError::OutOfPatience);
                        }
                        (&mut answer).await
                    }
                },
            };
            place.answered = true;
            in_time.map_err(|_| if until.is_some() { StoreError::OutOfPatience } else { StoreError::Unavailable })
        })
    }

    /// Waits for jobs and takes those that wait, in order of arrival. No job is lost when the future is dropped. `None` once
    /// the queue is closed and empty.
    pub(super) async fn batch(&self) -> Option<Batch<Q, A>> {
        loop {
            match self.is_waiting() {
                Some(true) => {}
                Some(false) => {
                    self.0.arrival.notified().await;
                    continue;
                }
                None => return None,
            }
            let relay = Relay(&self.0.arrival);
            // Requests whose bytes are here already are read before a batch leaves, instead of following in one of their own.
            yield_now().await;
            std::mem::forget(relay);
            let jobs = self.take();
            if !jobs.is_empty() {
                #[expect(clippy::cast_precision_loss, reason = "a batch has at most 1,024 jobs")]
                self.0.sizes.observe(jobs.len() as f64);
                return Some(Batch { jobs, queue: self.clone() });
            }
        }
    }

    /// Ends the queue: nothing is admitted any more, and who waits for a batch is told once it is empty.
    pub(super) fn close(&self) {
        self.waiting().closed = true;
        self.0.arrival.notify_waiters();
        self.0.arrival.notify_one();
    }

    /// Whether jobs wait; `None` if none ever will again.
    fn is_waiting(&self) -> Option<bool> {
        let waiting = self.waiting();
        if waiting.jobs.is_empty() && waiting.closed { None } else { Some(!waiting.jobs.is_empty()) }
    }

    /// The next batch, as small as its jobs want it.
    fn take(&self) -> Vec<Job<Q, A>> {
        let mut waiting = self.waiting();
        let mut most = MAX_BATCH;
        let fits = |(before, job): &(usize, &Job<Q, A>)| {
            most = most.min(MAX_BATCH >> (job.put_back.min(ALONE) * SHRINK).min(MAX_BATCH.ilog2()));
            *before < most
        };
        let most = waiting.jobs.iter().enumerate().take_while(fits).count();
        let jobs: Vec<_> = waiting.jobs.drain(..most).collect();
        let are_left = !waiting.jobs.is_empty();
        drop(waiting);
        self.0.depth.dec_by(i64::try_from(jobs.len()).unwrap_or(0));
        if are_left {
            self.0.arrival.notify_one();
        }
        jobs
    }

    fn put_back(&self, jobs: impl Iterator<Item = Job<Q, A>>) {
        let mut waiting = self.waiting();
        for mut job in jobs.filter(|job| !job.is_over()) {
            job.put_back += 1;
            let place = waiting.jobs.partition_point(|other| other.number < job.number);
            waiting.jobs.insert(place, job);
            self.0.depth.inc();
        }
        drop(waiting);
        self.0.arrival.notify_one();
    }

    /// Takes a job out of the queue; false if it is under way.
    fn withdraw(&self, number: u64) -> bool {
        let mut waiting = self.waiting();
        let found = waiting.jobs.binary_search_by_key(&number, |job| job.number);
        if let Ok(place) = found {
            waiting.jobs.remove(place);
            self.0.depth.dec();
        }
        found.is_ok()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<Q, A>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Q, A> Batch<Q, A> {
    /// Answers the jobs in their order, each by what `answer` returns next.
    pub(super) fn answer(mut self, mut answer: impl FnMut() -> A) {
        for job in self.jobs.drain(..) {
            // The client may have left meanwhile.
            let _ = job.reply.send(answer());
        }
    }

    /// Forgets the jobs whose clients have left, or whose time is up; false if none is left.
    pub(super) fn forget_gone(&mut self) -> bool {
        self.jobs.retain(|job| !job.is_over());
        !self.jobs.is_empty()
    }

    /// Whether the batch is a single job that was put back until it left alone.
    pub(super) fn is_last_resort(&self) -> bool {
        self.jobs.len() == 1 && self.jobs[0].put_back >= ALONE
    }

    /// Sorts by `key`; jobs with the same key stay in order of arrival.
    pub(super) fn sort_by_key<K: Ord + ?Sized>(&mut self, key: impl Fn(&Q) -> &K) {
        self.jobs.sort_by(|one, other| key(&one.question).cmp(key(&other.question)));
    }

    /// Divides the batch into parts of at most `size` jobs, the first one last.
    pub(super) fn divide(mut self, size: usize) -> Vec<Self> {
        let mut parts = Vec::new();
        while !self.jobs.is_empty() {
            let rest = self.jobs.len() - 1;
            let start = rest - rest % size.max(1);
            parts.push(Self { jobs: self.jobs.split_off(start), queue: self.queue.clone() });
        }
        parts
    }
}

impl<Q, A> Deref for Batch<Q, A> {
    type Target = [Job<Q, A>];

    fn deref(&self) -> &[Job<Q, A>] {
        &self.jobs
    }
}

impl<Q, A> Drop for Batch<Q, A> {
    fn drop(&mut self) {
        if !self.jobs.is_empty() {
            let jobs = std::mem::take(&mut self.jobs);
            self.queue.put_back(jobs.into_iter());
        }
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

impl<Q, A> Clone for Queue<Q, A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use super::*;

    type Asking<'a> = Pin<Box<dyn Future<Output = Result<u8, StoreError>> + 'a>>;

    fn queue(capacity: usize) -> Queue<u8, u8> {
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

    async fn next(queue: &Queue<u8, u8>) -> (Vec<u8>, Option<Batch<u8, u8>>) {
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
        assert!(queue.0.waiting.lock().is_ok_and(|waiting| waiting.jobs.is_empty()));
        for answer in [Some(10), None] {
            let until = soon();
            let mut asking = pin!(queue.ask(2, Some(until)));
            assert!(poll(asking.as_mut()).is_pending());
            let (_, batch) = next(&queue).await;
            sleep_until(until).await;
            assert!(poll(asking.as_mut()).is_pending());
            batch.into_iter().for_each(|batch| answer.map_or((), |answer| batch.answer(|| answer)));
            assert_eq!(asking.await, answer.ok_or(StoreError::OutOfPatience));
            assert!(queue.0.waiting.lock().is_ok_and(|waiting| waiting.jobs.is_empty()));
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
