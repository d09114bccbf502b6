#![allow(clippy::unwrap_used)]
use super::*;

fn event(id: u64) -> Event {
    Event { at_nanos: id as i64, ..Event::new(EventType::Container, "start", id.to_string()) }
}

fn id(news: &News) -> &str {
    match news {
        News::Event(event) => &event.id,
        News::Missed(_) => "missed",
    }
}

#[tokio::test]
async fn every_subscription_sees_what_is_published_after_it() {
    let events = Events::new();
    events.publish(event(1));
    let (mut first, mut second) = (events.subscribe(), events.subscribe());
    assert!(first.try_next().is_none());
    let waiting = tokio::spawn(async move { first.next().await });
    tokio::task::yield_now().await;
    events.publish(event(2));
    assert_eq!(id(&waiting.await.unwrap()), "2");
    assert_eq!(id(&second.next().await), "2");
    assert!(second.try_next().is_none());
}

#[tokio::test]
async fn a_slow_reader_is_told_how_many_it_missed_and_goes_on() {
    let events = Events::new();
    let mut slow = events.subscribe();
    for number in 0..KEPT as u64 + 5 {
        events.publish(event(number));
    }
    assert!(matches!(slow.next().await, News::Missed(5)));
    assert_eq!(id(&slow.next().await), "5");
    let rest = std::iter::from_fn(|| slow.try_next()).count();
    assert_eq!(rest, KEPT - 1);
}

#[tokio::test]
async fn replay_goes_over_into_news_without_a_hole() {
    let events = Events::new();
    (1..=5).for_each(|number| events.publish(event(number)));
    let mut reader = events.subscribe_since(4);
    events.publish(event(6));
    for expected in ["4", "5", "6"] {
        assert_eq!(id(&reader.next().await), expected);
    }
    assert!(reader.try_next().is_none());
    assert_eq!(events.recent(5).len(), 2);
    assert_eq!(events.recent(i64::MAX).len(), 0);
}

#[tokio::test]
async fn the_next_ring_knows_what_happened_before() {
    let place = tempfile::tempdir().unwrap();
    let events = Events::open(place.path());
    (1..=3).for_each(|number| events.publish(event(number)));
    drop(events);
    let events = Events::open(place.path());
    events.publish(event(2));
    let mut reader = events.subscribe_since(2);
    for expected in ["2", "3", "2"] {
        assert_eq!(id(&reader.next().await), expected);
    }
    // The clock was set back: the event comes after all others anyway.
    assert_eq!(events.recent(0).iter().map(|event| event.at_nanos).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(Events::open(place.path()).recent(0), events.recent(0));
}

#[test]
fn a_dropped_reader_leaves_nothing_behind() {
    let events = Events::new();
    let mut reader = events.subscribe();
    let mut context = Context::from_waker(Waker::noop());
    assert!(reader.poll(&mut context).is_pending());
    assert_eq!(events.lock().wakers.len(), 1);
    assert_eq!(events.readers(), 1);
    drop(reader);
    assert_eq!(events.readers(), 0);
    assert!(events.lock().wakers.is_empty());
}

#[test]
fn attributes_are_added() {
    let event = Event::new(EventType::Network, "connect", "n").attribute("container", "c").attributes([("a", "b")]);
    assert_eq!(event.attributes["container"], "c");
    assert_eq!(event.attributes["a"], "b");
    assert_eq!(serde_json::to_value(&event).unwrap()["kind"], "network");
    assert!(event.at_nanos > 0);
}
