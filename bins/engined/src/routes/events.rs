//! `/events`.

use std::sync::Arc;
use std::time::Duration;

use engine::events::{Event, EventType, News, Subscription};
use engine_api::filter::Filters;
use futures_util::stream;

use crate::convert::event::{FILTERS, message, wanted};
use crate::convert::time;
use crate::error::Error;
use crate::reply::{self, Response};
use crate::router::Call;
use crate::version::Gates;

/// `GET /events`: those that are kept when a beginning or an end is asked for, then those that come.
pub(crate) async fn stream(call: Call) -> Result<Response, Error> {
    let filters = call.query.filters(FILTERS)?;
    let since = time::parse("since", call.query.text("since"))?;
    let until = time::parse("until", call.query.text("until"))?;
    if let (Some(begin), Some(end)) = (since, until)
        && end < begin
    {
        let (since, until) = (call.query.text("since"), call.query.text("until"));
        return Err(Error::invalid(format!("`since` time ({since}) cannot be after `until` time ({until})")));
    }
    let events = call.daemon.engine.events();
    let news = if since.is_some() || until.is_some() {
        events.subscribe_since(since.unwrap_or(0))
    } else {
        events.subscribe()
    };
    let reader = Reader { news, filters, until, made_images: call.version.tells_of_made_images() };
    Ok(reply::stream(
        "application/json",
        stream::unfold(reader, |mut reader| async move {
            let event = reader.next().await?;
            Some((reply::json_line(&message(&event)), reader))
        }),
    ))
}

fn is_made_image(event: &Event) -> bool {
    event.kind == EventType::Image && event.action == "create"
}

struct Reader {
    news: Subscription,
    filters: Filters,
    until: Option<i64>,
    /// The client knows that images are made.
    made_images: bool,
}

impl Reader {
    /// The next event that is wanted; None at the end.
    async fn next(&mut self) -> Option<Arc<Event>> {
        loop {
            match self.news().await? {
                News::Event(event) if self.until.is_some_and(|until| event.at_nanos > until) => return None,
                News::Event(event) if !self.made_images && is_made_image(&event) => {}
                News::Event(event) if wanted(&event, &self.filters) => return Some(event),
                News::Event(_) => {}
                News::Missed(count) => tracing::warn!(count, "a client reads events too slowly and has missed some"),
            }
        }
    }

    async fn news(&mut self) -> Option<News> {
        if let Some(news) = self.news.try_next() {
            return Some(news);
        }
        let Some(until) = self.until else { return Some(self.news.next().await) };
        let left = u64::try_from(until - time::now()).ok().filter(|left| *left > 0)?;
        tokio::time::timeout(Duration::from_nanos(left), self.news.next()).await.ok()
    }
}
