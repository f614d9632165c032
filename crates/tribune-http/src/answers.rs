//! Rendered answers, shared: a question is rendered once per index of what it asks about, and everyone who asks
//! it then gets the same bytes.
//!
//! ```text
//!   Answers ── question ──▶ Slot ── newest ──▶ Rendering(index) ── once ──▶ Answer(index, Text)
//! ```
//!
//! Reading takes no lock: the table is concurrent and a slot is swapped as a whole. Of many who come with a new
//! index one renders, the others wait for its bytes as parked futures.

use std::hash::BuildHasher;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use foldhash::quality::{FixedState, RandomState};
use moka::future::Cache;
use tokio::sync::OnceCell;
use tribune_api::ApiError;
use tribune_core::{Index, State};

use crate::reply::{Reply, compressed};

/// What a question costs besides its bytes, roughly.
const SLOT_BYTES: usize = 512;

/// How many indexes with the same text are remembered: a client is at most a few behind when it asks again.
const EARLIER_MAX: usize = 8;

/// All questions that were asked lately.
#[derive(Debug)]
pub(crate) struct Answers {
    slots: Cache<String, Arc<Slot>, RandomState>,
}

/// One question with its newest answer.
#[derive(Debug)]
pub(crate) struct Slot {
    key: String,
    newest: ArcSwap<Rendering>,
}

/// An answer that is there or being made.
#[derive(Debug)]
struct Rendering {
    index: Index,
    answer: OnceCell<Arc<Answer>>,
    /// The one before, until this one's answer is there: its text is kept when it has not changed.
    previous: ArcSwapOption<Rendering>,
}

/// What a question is answered with at one index.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) index: Index,
    pub(crate) text: Arc<Text>,
    /// The last indexes before at which this was the answer too; index 0 fills what is free.
    earlier: [Index; EARLIER_MAX],
    /// Renderings of indexes before that were not done when this one was: their answers may be given yet.
    late: Vec<Arc<Rendering>>,
}

/// JSON, and the same compressed once somebody wants it so.
#[derive(Debug)]
pub(crate) struct Text {
    plain: Bytes,
    digest: u64,
    /// `None` inside when it is better sent as it is.
    gzip: OnceCell<Option<Bytes>>,
}

/// What came of asking a slot.
pub(crate) enum Shown {
    /// The answer, and whether it was there already.
    Answer { answer: Arc<Answer>, was_there: bool },
    /// Somebody has asked with a newer state: look at the newest and ask again.
    Outdated,
}

impl Answers {
    pub(crate) fn new(bytes_max: u64) -> Self {
        let weight = |key: &String, slot: &Arc<Slot>| {
            u32::try_from(SLOT_BYTES + 2 * key.len() + slot.bytes()).unwrap_or(u32::MAX)
        };
        Self {
            slots: Cache::builder()
                .max_capacity(bytes_max)
                .weigher(weight)
                .build_with_hasher(RandomState::default()),
        }
    }

    /// The slot of a question.
    pub(crate) async fn slot(&self, key: &str) -> Arc<Slot> {
        if let Some(slot) = self.slots.get(key).await {
            return slot;
        }
        let key = key.to_owned();
        self.slots.get_with(key.clone(), async move { Arc::new(Slot::new(key)) }).await
    }

    /// The answer of `slot` at `index`, rendered from `state` unless it is there.
    pub(crate) async fn show<R>(
        &self,
        slot: &Arc<Slot>,
        index: Index,
        state: &State,
        render: R,
    ) -> Result<Shown, ApiError>
    where
        R: FnOnce(&State) -> Result<Vec<u8>, ApiError>,
    {
        let Some(rendering) = slot.rendering(index) else { return Ok(Shown::Outdated) };
        if let Some(answer) = rendering.answer.get() {
            return Ok(Shown::Answer { answer: Arc::clone(answer), was_there: true });
        }
        let render = async || {
            metrics::counter!("tribune.http.renderings").increment(1);
            Ok::<_, ApiError>(Arc::new(Answer::new(index, render(state)?, rendering.previous.swap(None))))
        };
        let answer = Arc::clone(rendering.answer.get_or_try_init(render).await?);
        self.weigh(slot).await;
        Ok(Shown::Answer { answer, was_there: false })
    }

    /// A reply with the text of an answer of `slot`. The first who wants it compressed has that done for all.
    pub(crate) async fn reply(&self, slot: &Arc<Slot>, text: &Text, takes_gzip: bool) -> Reply {
        if takes_gzip {
            let is_first = !text.gzip.initialized();
            let gzip = text.gzip.get_or_init(|| compressed(&text.plain)).await.clone();
            if let Some(gzip) = gzip {
                if is_first {
                    self.weigh(slot).await;
                }
                return Reply::compressed(gzip);
            }
        }
        Reply::bytes(text.plain.clone())
    }

    /// Has the bound on memory know what `slot` holds now.
    async fn weigh(&self, slot: &Arc<Slot>) {
        self.slots.insert(slot.key.clone(), Arc::clone(slot)).await;
    }
}

impl Slot {
    fn new(key: String) -> Self {
        Self { key, newest: ArcSwap::from_pointee(Rendering::new(Index(0), None)) }
    }

    /// The rendering at `index`; `None` when there is a newer one already.
    fn rendering(&self, index: Index) -> Option<Arc<Rendering>> {
        loop {
            let newest = self.newest.load_full();
            if newest.index == index {
                return Some(newest);
            }
            if newest.index > index {
                return None;
            }
            // One that failed is passed over, or they would pile up. The slot and this look hold it too.
            let is_of_use = newest.answer.initialized() || Arc::strong_count(&newest) > 2;
            let last = if is_of_use { Some(Arc::clone(&newest)) } else { newest.previous.load_full() };
            let next = Arc::new(Rendering::new(index, last));
            let previous = self.newest.compare_and_swap(&newest, Arc::clone(&next));
            if Arc::ptr_eq(&previous, &newest) {
                return Some(next);
            }
        }
    }

    fn bytes(&self) -> usize {
        let newest = self.newest.load();
        newest.answer.get().map_or(0, |answer| answer.text.bytes())
    }
}

impl Rendering {
    fn new(index: Index, previous: Option<Arc<Self>>) -> Self {
        Self { index, answer: OnceCell::new(), previous: ArcSwapOption::from(previous) }
    }

    /// The last answer that is there, of this rendering or one before, and the renderings since that are not done.
    fn last_answer(self: Arc<Self>) -> (Option<Arc<Answer>>, Vec<Arc<Self>>) {
        let (mut late, mut last) = (Vec::new(), Some(self));
        while let Some(rendering) = last {
            if let Some(answer) = rendering.answer.get() {
                return (Some(Arc::clone(answer)), late);
            }
            last = rendering.previous.load_full();
            late.push(rendering);
        }
        (None, late)
    }

    /// Whether somebody is at work on it, or at least may be.
    fn is_pending(self: &Arc<Self>) -> bool {
        self.answer.get().is_none() && Arc::strong_count(self) > 1
    }
}

impl Answer {
    fn new(index: Index, plain: Vec<u8>, previous: Option<Arc<Rendering>>) -> Self {
        let digest = digest(&plain);
        let (before, mut late) = previous.map(Rendering::last_answer).unwrap_or_default();
        late.truncate(EARLIER_MAX);
        let Some(before) = before.filter(|before| before.text.holds(digest, &plain)) else {
            return Self { index, text: Text::new(plain, digest), earlier: [Index(0); EARLIER_MAX], late };
        };
        let mut earlier = before.earlier;
        let mut remember = |index| {
            earlier.rotate_right(1);
            earlier[0] = index;
        };
        for rendering in &before.late {
            if before.is_given_by(rendering) {
                remember(rendering.index);
            } else if rendering.is_pending() && late.len() < EARLIER_MAX {
                late.push(Arc::clone(rendering));
            }
        }
        remember(before.index);
        Self { index, text: Arc::clone(&before.text), earlier, late }
    }

    /// Whether a client that was answered at `index` has this very text, as far as is remembered.
    pub(crate) fn was_given_at(&self, index: Index) -> bool {
        let is_late = |rendering: &Arc<Rendering>| rendering.index == index && self.is_given_by(rendering);
        index > Index(0) && (self.earlier.contains(&index) || self.late.iter().any(is_late))
    }

    /// Whether a rendering has this very text.
    fn is_given_by(&self, rendering: &Rendering) -> bool {
        rendering.answer.get().is_some_and(|answer| answer.text.same_as(&self.text))
    }
}

fn digest(bytes: &[u8]) -> u64 {
    FixedState::with_seed(0).hash_one(bytes)
}

impl Text {
    fn new(plain: Vec<u8>, digest: u64) -> Arc<Self> {
        Arc::new(Self { plain: plain.into(), digest, gzip: OnceCell::new() })
    }

    /// Whether both are the same byte for byte. Different texts are told apart without being read.
    pub(crate) fn same_as(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        Arc::ptr_eq(self, other) || self.holds(other.digest, &other.plain)
    }

    /// The bytes as they are.
    pub(crate) fn plain(&self) -> Bytes {
        self.plain.clone()
    }

    fn holds(&self, digest: u64, plain: &[u8]) -> bool {
        self.digest == digest && self.plain == plain
    }

    fn bytes(&self) -> usize {
        self.plain.len() + self.gzip.get().and_then(Option::as_ref).map_or(0, Bytes::len)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use flate2::read::GzDecoder;
    use futures::FutureExt;
    use http_body_util::BodyExt;

    use super::*;
    use crate::limits::{GZIP_BYTES_MIN, GZIP_INLINE_BYTES_MAX};

    async fn show(answers: &Answers, index: u64, text: &str) -> Option<(Arc<Answer>, bool)> {
        let slot = answers.slot("question").await;
        let render = |_: &State| Ok(text.as_bytes().to_vec());
        match answers.show(&slot, Index(index), &State::default(), render).await.unwrap() {
            Shown::Answer { answer, was_there } => Some((answer, was_there)),
            Shown::Outdated => None,
        }
    }

    #[tokio::test]
    async fn an_index_is_rendered_once() {
        let answers = Answers::new(1 << 20);
        let (first, was_there) = show(&answers, 5, "a").await.unwrap();
        assert!(!was_there);
        let (second, was_there) = show(&answers, 5, "never rendered").await.unwrap();
        assert!(was_there);
        assert!(Arc::ptr_eq(&first, &second));
        let (third, _) = show(&answers, 6, "b").await.unwrap();
        assert_eq!((third.index, &third.text.plain[..]), (Index(6), &b"b"[..]));
        assert!(show(&answers, 5, "old").await.is_none(), "an older state must not take the answer back");
    }

    #[tokio::test]
    async fn a_text_that_is_the_same_is_known_to_be() {
        let answers = Answers::new(1 << 20);
        let (first, _) = show(&answers, 5, "a").await.unwrap();
        let (second, _) = show(&answers, 6, "a").await.unwrap();
        assert!(Arc::ptr_eq(&first.text, &second.text));
        assert!(second.was_given_at(Index(5)));
        assert!(!second.was_given_at(Index(4)) && !second.was_given_at(Index(0)));
        let (third, _) = show(&answers, 7, "b").await.unwrap();
        assert!(!first.text.same_as(&third.text) && !third.was_given_at(Index(6)));
        let (fourth, _) = show(&answers, 8, "a").await.unwrap();
        assert!(first.text.same_as(&fourth.text) && !Arc::ptr_eq(&first.text, &fourth.text));
    }

    #[tokio::test]
    async fn a_text_that_comes_late_is_known_to_be_the_same() {
        let answers = Answers::new(1 << 20);
        show(&answers, 4, "a").await.unwrap();
        let slot = answers.slot("question").await;
        let mut newer = None;
        // While one renders, another does with a newer state and is done first.
        let render = |_: &State| {
            newer = show(&answers, 6, "b").now_or_never().unwrap();
            Ok(b"b".to_vec())
        };
        answers.show(&slot, Index(5), &State::default(), render).await.unwrap();
        let (newer, _) = newer.unwrap();
        assert!(newer.was_given_at(Index(5)) && !newer.was_given_at(Index(4)));
        let (newest, _) = show(&answers, 7, "b").await.unwrap();
        assert!(newest.was_given_at(Index(5)) && newest.was_given_at(Index(6)));
        assert!(newest.late.is_empty());
        let (changed, _) = show(&answers, 8, "c").await.unwrap();
        assert!(!changed.was_given_at(Index(5)) && !changed.was_given_at(Index(7)));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn of_many_who_come_at_once_one_renders() {
        let answers = Arc::new(Answers::new(1 << 20));
        let renderings = Arc::new(AtomicUsize::new(0));
        let tasks = (0..200).map(|_| {
            let (answers, renderings) = (Arc::clone(&answers), Arc::clone(&renderings));
            tokio::spawn(async move {
                let slot = answers.slot("question").await;
                let render = |_: &State| {
                    renderings.fetch_add(1, Ordering::Relaxed);
                    Ok(b"text".to_vec())
                };
                answers.show(&slot, Index(9), &State::default(), render).await.unwrap();
            })
        });
        futures::future::try_join_all(tasks).await.unwrap();
        assert_eq!(renderings.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_failed_rendering_is_not_kept() {
        let answers = Answers::new(1 << 20);
        let slot = answers.slot("question").await;
        let refuse = |_: &State| Err(ApiError::bad_request("no"));
        for index in 1..=3 {
            assert!(answers.show(&slot, Index(index), &State::default(), refuse).await.is_err());
        }
        assert!(slot.newest.load().previous.load().is_none(), "they do not pile up");
        assert!(!show(&answers, 3, "a").await.unwrap().1);
    }

    #[tokio::test]
    async fn a_text_is_compressed_once_and_counted() {
        let answers = Answers::new(1 << 20);
        for length in [GZIP_BYTES_MIN - 1, GZIP_BYTES_MIN, GZIP_INLINE_BYTES_MAX + 1] {
            let text = "x".repeat(length);
            let (answer, _) = show(&answers, length as u64, &text).await.unwrap();
            let slot = answers.slot("question").await;
            let plain = body(answers.reply(&slot, &answer.text, false).await).await;
            assert_eq!(plain, (None, Bytes::from(text.clone())));
            let (encoding, first) = body(answers.reply(&slot, &answer.text, true).await).await;
            let (_, second) = body(answers.reply(&slot, &answer.text, true).await).await;
            assert_eq!(first.as_ptr(), second.as_ptr(), "{length}");
            if length < GZIP_BYTES_MIN {
                assert_eq!((encoding, first.len()), (None, length));
                continue;
            }
            assert_eq!(encoding.as_deref(), Some("gzip"));
            let mut unpacked = String::new();
            GzDecoder::new(&first[..]).read_to_string(&mut unpacked).unwrap();
            assert!(unpacked == text, "{length}");
            answers.slots.run_pending_tasks().await;
            assert!(answers.slots.weighted_size() as usize >= SLOT_BYTES + length + first.len());
        }
    }

    async fn body(reply: Reply) -> (Option<String>, Bytes) {
        let response = reply.into_response(false).await;
        let encoding = response.headers().get("content-encoding");
        let encoding = encoding.map(|value| value.to_str().unwrap().to_owned());
        (encoding, response.into_body().collect().await.unwrap().to_bytes())
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let answers = Answers::new(100_000);
        for n in 0..1000 {
            let slot = answers.slot(&n.to_string()).await;
            let render = |_: &State| Ok(vec![b'x'; 10_000]);
            answers.show(&slot, Index(1), &State::default(), render).await.unwrap();
        }
        answers.slots.run_pending_tasks().await;
        assert!(answers.slots.weighted_size() <= 100_000, "{}", answers.slots.weighted_size());
    }
}
