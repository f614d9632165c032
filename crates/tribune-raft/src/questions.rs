//! One question for many who wait.
//!
//! An answer serves everybody who came before its question was put. So while one question is under way, all who
//! come wait for the next one, which one of them puts for all.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// A line of those who wait for the same question.
#[derive(Debug)]
pub(crate) struct Questions<T> {
    /// Questions put so far.
    put: AtomicU64,
    answered: Mutex<Answered<T>>,
}

#[derive(Debug)]
struct Answered<T> {
    /// The number of the question that `answer` is to.
    number: u64,
    answer: Option<T>,
}

impl<T: Clone> Questions<T> {
    pub(crate) fn new() -> Self {
        Self { put: AtomicU64::new(0), answered: Mutex::new(Answered { number: 0, answer: None }) }
    }

    /// The answer to a question that is put after this call, by this caller or by another.
    pub(crate) async fn ask<F: Future<Output = T>>(&self, question: impl FnOnce() -> F) -> T {
        let before = self.put.load(Ordering::SeqCst);
        let mut answered = self.answered.lock().await;
        if answered.number > before
            && let Some(answer) = &answered.answer
        {
            return answer.clone();
        }
        let number = self.put.fetch_add(1, Ordering::SeqCst) + 1;
        let answer = question().await;
        *answered = Answered { number, answer: Some(answer.clone()) };
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn all_who_wait_share_the_next_question_and_nobody_gets_an_older_answer() {
        let questions = Arc::new(Questions::new());
        let asked = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new(Semaphore::new(0));
        let ask = || {
            let (questions, asked, gate) = (questions.clone(), asked.clone(), gate.clone());
            tokio::spawn(async move {
                let question = || async {
                    let number = asked.fetch_add(1, Ordering::SeqCst) + 1;
                    gate.acquire().await.unwrap().forget();
                    number
                };
                questions.ask(question).await
            })
        };
        let first = ask();
        while asked.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let others: Vec<_> = (0..50).map(|_| ask()).collect();
        tokio::task::yield_now().await;
        gate.add_permits(2);
        assert_eq!(first.await.unwrap(), 1);
        for other in others {
            assert_eq!(other.await.unwrap(), 2);
        }
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn one_who_gives_up_leaves_the_question_to_the_next() {
        let questions = Questions::new();
        let never = tokio::time::timeout(std::time::Duration::ZERO, questions.ask(std::future::pending));
        assert!(never.await.is_err());
        assert_eq!(questions.ask(|| async { 7 }).await, 7);
    }
}
