//! User events: sent over the pool of the datacenter, and those that concern this node gathered for who asks.

use async_trait::async_trait;
use tribune_core::event::Event;
use tribune_gossip::UserEvent;
use tribune_http::{Events, HostError, Inbox};

use super::Node;

#[async_trait]
impl Events for Node {
    async fn fire(&self, event: Event) -> Result<Event, HostError> {
        let mut sent = UserEvent::new(event.id.as_str(), event.name.as_str(), event.payload.clone());
        sent.node_filter.clone_from(&event.node_filter);
        sent.service_filter.clone_from(&event.service_filter);
        sent.tag_filter.clone_from(&event.tag_filter);
        let sent =
            self.standing.lan.fire(sent).await.map_err(|error| HostError::Failed(error.to_string()))?;
        self.gather();
        Ok(Event { ltime: sent.lamport_time, ..event })
    }

    fn inbox(&self) -> &Inbox {
        &self.inbox
    }
}

impl Node {
    /// Gathers events until the pool ends.
    pub(crate) async fn follow_events(&self) {
        let mut changes = self.standing.lan.event_changes();
        while changes.changed().await.is_ok() {
            self.gather();
        }
    }

    /// Takes what has arrived and concerns this node; what is known already is left out there.
    fn gather(&self) {
        let services = self.local.services();
        for arrived in self.standing.lan.events().iter() {
            let event = read(arrived);
            let services = services.services().map(|service| {
                let service = &service.instance;
                (service.name.as_str(), service.tags.iter().map(|tag| tag.as_str()))
            });
            if event.concerns(self.record.name.as_str(), services) {
                self.inbox.take(event);
            }
        }
    }
}

fn read(event: &UserEvent) -> Event {
    Event {
        id: event.id.as_str().into(),
        name: event.name.as_str().into(),
        payload: event.payload.clone(),
        node_filter: event.node_filter.clone(),
        service_filter: event.service_filter.clone(),
        tag_filter: event.tag_filter.clone(),
        ltime: event.lamport_time,
    }
}
