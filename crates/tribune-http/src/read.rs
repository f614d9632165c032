//! A read from beginning to end, as handlers use it: made from the request, answered through the datacenter.

use std::sync::Arc;

use bytes::Bytes;
use tribune_api::{ApiError, ReadOptions};
use tribune_core::state::View;
use tribune_core::{Authority, Index, State};

use crate::call::Call;
use crate::datacenter::{Datacenter, EFFECTIVE_CONSISTENCY};
use crate::error::Error;
use crate::question::Question;
use crate::reading::Reading;
use crate::reply::{Reply, takes_gzip};

/// One read of one caller.
#[derive(Debug)]
pub(crate) struct Read<'a> {
    dc: &'a Datacenter,
    reading: Reading,
    authority: Authority,
    takes_gzip: bool,
}

impl<'a> Read<'a> {
    /// The read that a request asks for, and the parameters that say what it is about.
    pub(crate) fn new(dc: &'a Datacenter, call: &Call) -> Result<(Self, ReadOptions), Error> {
        let options = call.query.read_options(dc.config.waits)?;
        let reading = Reading::new(call, &options, &dc.config)?;
        let takes_gzip = takes_gzip(&call.headers);
        Ok((Self { dc, reading, authority: call.authority(), takes_gzip }, options))
    }

    /// A state as current as the request wants it.
    pub(crate) async fn state(&self) -> Result<Arc<State>, Error> {
        self.dc.read(&self.reading).await
    }

    /// Answers the question.
    pub(crate) async fn answer<R>(&self, question: Question, render: R) -> Result<Reply, Error>
    where
        R: Fn(View<'_>) -> Result<Vec<u8>, ApiError>,
    {
        let state = self.state().await?;
        self.answer_from(state, question, render).await
    }

    /// Puts into a reply what a read of keys or sessions says about itself.
    pub(crate) fn describe(&self, reply: &mut Reply, index: Index) {
        self.dc.describe(&mut reply.headers, index, &self.reading);
        reply.headers.remove(EFFECTIVE_CONSISTENCY);
    }

    /// As [`Read::answer`], without the header that says how consistent catalog and health reads are.
    pub(crate) async fn answer_plainly<R>(&self, question: Question, render: R) -> Result<Reply, Error>
    where
        R: Fn(View<'_>) -> Result<Vec<u8>, ApiError>,
    {
        let mut reply = self.answer(question, render).await?;
        reply.headers.remove(EFFECTIVE_CONSISTENCY);
        Ok(reply)
    }

    /// Answers the question with bytes that a reply is made of by the caller.
    pub(crate) async fn answer_as<R>(
        &self,
        question: Question,
        render: R,
        reply: impl FnOnce(Bytes) -> Reply,
    ) -> Result<Reply, Error>
    where
        R: Fn(View<'_>) -> Result<Vec<u8>, ApiError>,
    {
        let render = |state: &State| render(state.view(&self.authority));
        let shared = self.dc.answer(question, &self.reading, self.state().await?, render).await?;
        let mut reply = reply(shared.bytes());
        self.describe(&mut reply, shared.index());
        Ok(reply)
    }

    /// Answers the question, beginning with this state.
    pub(crate) async fn answer_from<R>(
        &self,
        state: Arc<State>,
        question: Question,
        render: R,
    ) -> Result<Reply, Error>
    where
        R: Fn(View<'_>) -> Result<Vec<u8>, ApiError>,
    {
        let render = |state: &State| render(state.view(&self.authority));
        let shared = self.dc.answer(question, &self.reading, state, render).await?;
        Ok(self.dc.reply(&shared, &self.reading, self.takes_gzip).await)
    }
}
