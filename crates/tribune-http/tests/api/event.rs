//! `/v1/event/…`.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use serde_json::json;
use tribune_core::event::Event;
use tribune_http::{Events, HostError, Inbox};

use crate::node::TestNode;

/// Events that arrive at once, and here only.
#[derive(Default)]
pub(crate) struct Post {
    inbox: Inbox,
    ltime: AtomicU64,
}

#[async_trait]
impl Events for Post {
    async fn fire(&self, mut event: Event) -> Result<Event, HostError> {
        if event.payload.len() > 512 {
            return Err(HostError::Failed("user event exceeds configured limit of 512 bytes".to_owned()));
        }
        event.ltime = self.ltime.fetch_add(1, Ordering::Relaxed) + 2;
        self.inbox.take(event.clone());
        Ok(event)
    }

    fn inbox(&self) -> &Inbox {
        &self.inbox
    }
}

#[tokio::test]
async fn events_are_sent_and_listed() {
    let node = TestNode::start().await;
    let empty = node.get("/v1/event/list").await;
    assert_eq!((empty.index(), empty.json()), (1, json!([])));
    let sent = node.put("/v1/event/fire/deploy?node=n.&service=web&tag=a", "hello").await.json();
    assert_eq!(sent["Payload"], json!("aGVsbG8="));
    assert_eq!((&sent["Version"], &sent["LTime"]), (&json!(1), &json!(0)));
    node.done("/v1/event/fire/other", "").await;
    let all = node.get("/v1/event/list").await.json();
    assert_eq!((&all[0]["ID"], &all[0]["LTime"]), (&sent["ID"], &json!(2)));
    assert_eq!(
        all[1],
        json!({"ID": all[1]["ID"], "Name": "other", "Payload": null, "NodeFilter": "", "ServiceFilter": "",
               "TagFilter": "", "Version": 1, "LTime": 3})
    );
    let named = node.get("/v1/event/list?name=deploy").await;
    assert_eq!(named.json().as_array().unwrap().len(), 1);
    let event = Event { id: sent["ID"].as_str().unwrap().into(), ..Event::default() };
    assert_eq!(named.index(), event.index());
}

#[tokio::test]
async fn the_next_event_can_be_waited_for() {
    let node = TestNode::start().await;
    let first = node.get("/v1/event/list?name=a").await.index();
    let waiting = async { node.get(&format!("/v1/event/list?name=a&index={first}&wait=60s")).await };
    let sending = async {
        tokio::task::yield_now().await;
        node.done("/v1/event/fire/b", "").await;
        node.done("/v1/event/fire/a", "x").await;
    };
    let (answer, ()) = tokio::join!(waiting, sending);
    assert_eq!(answer.json()[0]["Name"], json!("a"));
    // An index of the past is answered at once, whichever is larger.
    assert_ne!(node.get("/v1/event/list?name=a&index=5&wait=60s").await.index(), first);
    let same = format!("/v1/event/list?name=a&index={}&wait=10ms", answer.index());
    assert_eq!(node.get(&same).await.index(), answer.index());
}

#[tokio::test]
async fn events_that_cannot_be_sent_say_why() {
    let node = TestNode::start().await;
    assert_eq!(node.put("/v1/event/fire/", "").await.said(), (400, "Missing name"));
    assert_eq!(
        node.put("/v1/event/fire/x?tag=a", "").await.said(),
        (500, "Cannot provide tag filter without service filter")
    );
    let bad = node.put("/v1/event/fire/x?node=(", "").await;
    assert!(bad.text().starts_with("Invalid node filter: error parsing regexp"), "{}", bad.text());
    assert_eq!(node.put("/v1/event/fire/x", &"x".repeat(600)).await.status, 500);
    assert_eq!(node.get("/v1/event/list?index=x").await.said(), (400, "Invalid index"));
}
