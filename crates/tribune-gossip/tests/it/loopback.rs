//! Pools on loopback sockets.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;

use tokio::net::UdpSocket;
use tribune_gossip::{Config, Keyring, KeyringError, Status, Timing, UserEvent, lan};

use crate::support::{
    KEY_16, KEY_24, KEY_32, Node, cluster, dc, eventually, eventually_asked, is_measured, sockets, start,
    start_with_key, stop,
};

#[tokio::test]
async fn two_pools_join_and_know_each_other() {
    let nodes = cluster(&["a", "b"]).await;
    let members = nodes[0].pool.members();
    let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(members[1].address, nodes[1].address());
    assert_eq!(members[1].datacenter, dc("dc1"));
    eventually("round trips are measured", || {
        is_measured(&nodes[0].pool, "b") && is_measured(&nodes[1].pool, "a")
    })
    .await;
    stop(nodes).await;
}

#[tokio::test]
async fn a_death_is_seen_as_failed_and_a_good_bye_as_left() {
    let mut nodes = cluster(&["a", "b", "c", "d"]).await;
    let left = nodes.pop().unwrap();
    left.pool.leave().await;
    assert_eq!(left.status("d"), Some(Status::Left));
    left.running.stop().await;
    let dead = nodes.pop().unwrap();
    drop(dead.running);
    eventually("c failed, d left", || {
        nodes
            .iter()
            .all(|node| node.status("c") == Some(Status::Failed) && node.status("d") == Some(Status::Left))
    })
    .await;
    assert!(nodes[0].pool.force_leave("C", false).await);
    assert!(!nodes[0].pool.force_leave("nobody", false).await);
    eventually("c was forced to leave", || nodes.iter().all(|node| node.status("c") == Some(Status::Left)))
        .await;
    assert!(nodes[1].pool.force_leave("c", true).await);
    eventually("c was pruned", || nodes.iter().all(|node| node.status("c").is_none())).await;
    assert!(nodes[1].pool.force_leave("a", false).await, "a lives");
    assert_eq!(nodes[1].status("a"), Some(Status::Alive));
    stop(nodes).await;
}

#[tokio::test]
async fn a_restart_with_another_address_leaves_no_ghost() {
    let mut nodes = cluster(&["a", "b", "c"]).await;
    let old = nodes.pop().unwrap();
    drop(old.running);
    let (udp, tcp, address) = sockets();
    let mut config = Config::new("c", "id-of-c", dc("dc1"), address);
    config.timing = Timing::local();
    let (pool, running) = lan(config.clone(), udp, tcp).await.unwrap();
    let back = Node { pool, running, config };
    back.join(&nodes[0]).await;
    nodes.push(back);
    eventually("c lives at its new address, once", || {
        nodes.iter().all(|node| {
            let members = node.pool.members();
            let of_c: Vec<_> = members.iter().filter(|member| member.name == "c").collect();
            members.len() == 3
                && of_c.len() == 1
                && of_c[0].address == address
                && of_c[0].status == Status::Alive
        })
    })
    .await;
    stop(nodes).await;
}

#[tokio::test]
async fn a_machine_that_was_set_up_anew_takes_its_name_again() {
    let mut nodes = cluster(&["a", "b", "c"]).await;
    drop(nodes.pop().unwrap().running);
    let again = start("c", |config| config.id = "another-id".into()).await;
    again.join(&nodes[0]).await;
    nodes.push(again);
    eventually("c is the new one", || {
        nodes.iter().all(|node| {
            let members = node.pool.members();
            let c = members.iter().find(|member| member.name == "c");
            members.len() == 3 && c.is_some_and(|c| c.id == "another-id" && c.status == Status::Alive)
        })
    })
    .await;
    stop(nodes).await;
}

#[tokio::test]
async fn names_and_ids_of_the_living_are_not_given_away() {
    let nodes = cluster(&["a", "b"]).await;
    let same_name = start("B", |config| config.id = "another".into()).await;
    let outcome = same_name.pool.join(&[nodes[0].address()]).await;
    let reason = &outcome.failures[0].1;
    assert!(reason.starts_with("Node name conflicts: 'b'"), "{reason}");
    for address in [nodes[1].address(), same_name.address()] {
        assert!(reason.contains(&address.to_string()), "{reason}");
    }
    let same_id = start("z", |config| config.id = "id-of-a".into()).await;
    let outcome = same_id.pool.join(&[nodes[1].address()]).await;
    let reason = &outcome.failures[0].1;
    assert!(
        reason.starts_with("Member 'a' has conflicting node ID 'id-of-a' with this agent's ID"),
        "{reason}"
    );
    let clone = start("b", |_| {}).await;
    let outcome = clone.pool.join(&[nodes[0].address(), nodes[1].address()]).await;
    assert_eq!((outcome.joined, outcome.failures.len()), (0, 2), "{outcome:?}");
    assert_eq!(nodes.iter().map(Node::alive).collect::<Vec<_>>(), [2, 2]);
    stop(nodes.into_iter().chain([same_name, same_id, clone])).await;
}

#[tokio::test]
async fn another_datacenter_is_refused_and_both_are_named() {
    for key in [None, Some(Keyring::new(KEY_16).unwrap())] {
        let ours = start("a", |config| config.keyring = key.clone()).await;
        let theirs = start("b", |config| {
            config.keyring = key.clone();
            config.datacenter = dc("dc2");
        })
        .await;
        let outcome = theirs.pool.join(&[ours.address()]).await;
        let reason = &outcome.failures[0].1;
        assert!(reason.contains("this agent is in datacenter 'dc2', the other in 'dc1'"), "{reason}");
        assert_eq!((ours.pool.members().len(), theirs.pool.members().len()), (1, 1));
        stop([ours, theirs]).await;
    }
}

#[tokio::test]
async fn keys_must_agree() {
    let encrypted = start_with_key("a", &[KEY_32]).await;
    let others = [
        (start_with_key("b", &[KEY_16]).await, "the gossip keys of the two agents differ"),
        (start("c", |_| {}).await, "this pool is encrypted and the message is not"),
    ];
    for (other, expected) in others {
        let outcome = other.pool.join(&[encrypted.address()]).await;
        assert!(outcome.failures[0].1.contains(expected), "{outcome:?}");
        assert_eq!(encrypted.pool.members().len(), 1);
        stop([other]).await;
    }
    let plain = start("d", |_| {}).await;
    let outcome = encrypted.pool.join(&[plain.address()]).await;
    assert!(outcome.failures[0].1.contains("this pool is not encrypted"), "{outcome:?}");
    stop([encrypted, plain]).await;
}

#[tokio::test]
async fn joining_oneself_and_nobody() {
    let node = start("a", |_| {}).await;
    let nobody: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let outcome = node.pool.join(&[node.address(), nobody]).await;
    assert_eq!((outcome.joined, outcome.own, outcome.failures.len()), (0, 1, 1));
    assert_eq!(outcome.failures[0].0, nobody);
    assert!(outcome.failures[0].1.contains("refused"), "{outcome:?}");
    stop([node]).await;
}

#[tokio::test]
async fn tags_travel_small_and_large() {
    let nodes = cluster(&["a", "b", "c"]).await;
    let large: BTreeMap<String, String> = (0..30).map(|n| (format!("tag-{n}"), "v".repeat(60))).collect();
    for tags in [BTreeMap::from([("role".into(), "consul".into())]), large] {
        nodes[2].pool.set_tags(tags.clone()).await.unwrap();
        eventually("the tags are known", || {
            nodes.iter().all(|node| {
                node.pool.members().iter().any(|member| member.name == "c" && *member.tags == tags)
            })
        })
        .await;
    }
    let too_many = (0..65).map(|n| (format!("tag-{n}"), String::new())).collect();
    assert!(nodes[2].pool.set_tags(too_many).await.is_err());
    stop(nodes).await;
}

#[tokio::test]
async fn events_reach_everybody_once_and_newcomers_too() {
    let mut nodes = cluster(&["a", "b", "c"]).await;
    let mut event = UserEvent::new("id-1", "deploy", b"v2".to_vec());
    event.service_filter = "web".into();
    let fired = nodes[0].pool.fire(event).await.unwrap();
    assert_eq!(fired.lamport_time, 1);
    nodes[1].pool.fire(UserEvent::new("id-2", "deploy", b"v3".to_vec())).await.unwrap();
    let late = start("d", |_| {}).await;
    late.join(&nodes[2]).await;
    nodes.push(late);
    eventually("each has both", || nodes.iter().all(|node| node.pool.events().len() == 2)).await;
    assert_eq!(*nodes[3].pool.events()[0], fired);
    let error = nodes[0].pool.fire(UserEvent::new("id-3", "deploy", vec![0; 600])).await.unwrap_err();
    assert!(error.to_string().contains("512"), "{error}");
    stop(nodes).await;
}

#[tokio::test]
async fn members_of_before_are_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("serf/local.snapshot");
    let keep = |config: &mut Config| config.state_file = Some(path.clone());
    let first = start("a", |_| {}).await;
    let second = start("b", keep).await;
    second.join(&first).await;
    second.pool.fire(UserEvent::new("id", "deploy", Vec::new())).await.unwrap();
    second.running.stop().await;
    let again = start("b", keep).await;
    eventually("it joined by itself", || again.alive() == 2 && first.alive() == 2).await;
    let fired = again.pool.fire(UserEvent::new("id-2", "deploy", Vec::new())).await.unwrap();
    assert!(fired.lamport_time > 1);
    again.pool.leave().await;
    again.running.stop().await;
    let after_leaving = start("b", keep).await;
    assert_eq!(after_leaving.pool.members().len(), 1, "who left does not return by itself");
    after_leaving.running.stop().await;
    fs::write(&path, "{damage").unwrap();
    let damaged = start("b", keep).await;
    assert!(directory.path().join("serf/local.snapshot.damaged").exists());
    stop([damaged, first]).await;
}

#[tokio::test]
async fn keys_rotate_while_a_member_is_down() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("local.keyring");
    let a = start_with_key("a", &[KEY_16]).await;
    let b = start_with_key("b", &[KEY_16]).await;
    let with_file = |config: &mut Config| {
        config.keyring = Some(Keyring::new(KEY_16).unwrap());
        config.keyring_file = Some(path.clone());
    };
    let c = start("c", with_file).await;
    b.join(&a).await;
    c.join(&a).await;
    eventually("three", || [&a, &b, &c].iter().all(|node| node.alive() == 3)).await;
    let listed = a.pool.keyring_list().await.unwrap();
    assert_eq!((listed.nodes, listed.keys.get(KEY_16).copied()), (3, Some(3)));
    drop(c.running);
    eventually("c failed", || a.alive() == 2 && b.alive() == 2).await;

    let refused = a.pool.keyring_use(KEY_24).await.unwrap_err();
    assert!(matches!(&refused, KeyringError::Refused { reason, .. } if reason.contains("0/2")), "{refused}");
    a.pool.keyring_install(KEY_24).await.unwrap();
    let refused = b.pool.keyring_remove(KEY_16).await.unwrap_err();
    assert!(refused.to_string().contains("Removing the primary key is not allowed"), "{refused}");
    let used = b.pool.keyring_use(KEY_24).await.unwrap();
    assert_eq!(used.primary_keys.get(KEY_24), Some(&2));

    let c = start("c", with_file).await;
    c.join(&a).await;
    eventually("c is back", || [&a, &b, &c].iter().all(|node| node.alive() == 3)).await;
    eventually_asked("c has the new key", || async {
        let listed = b.pool.keyring_list().await;
        listed.is_ok_and(|report| report.primary_keys.get(KEY_24) == Some(&3))
    })
    .await;
    let removed = c.pool.keyring_remove(KEY_16).await.unwrap();
    assert_eq!(removed.keys.keys().collect::<Vec<_>>(), [KEY_24]);
    assert_eq!(Keyring::load(&path).unwrap().unwrap().primary(), KEY_24);
    assert!(a.pool.keyring_install("no key").await.unwrap_err().to_string().contains("base64"));
    stop([a, b, c]).await;
}

#[tokio::test]
async fn forged_packets_change_nothing() {
    let a = start_with_key("a", &[KEY_32]).await;
    let b = start_with_key("b", &[KEY_32]).await;
    b.join(&a).await;
    eventually("two", || a.alive() == 2 && b.alive() == 2).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut forged = vec![vec![], vec![1], vec![1, 0], b"plain text".to_vec(), vec![0xff; 1400]];
    forged.extend((0..100u8).map(|n| [&[1, 1][..], &vec![n; usize::from(n)]].concat()));
    for packet in &forged {
        socket.send_to(packet, a.address()).await.unwrap();
    }
    let mut stream = tokio::net::TcpStream::connect(a.address()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, &[0xff; 64]).await.unwrap();
    eventually("they still probe each other", || is_measured(&a.pool, "b") && is_measured(&b.pool, "a"))
        .await;
    assert_eq!((a.alive(), b.alive(), a.pool.members().len()), (2, 2, 2));
    stop([a, b]).await;
}

#[tokio::test]
async fn ten_pools_in_a_chain_of_joins() {
    let mut nodes: Vec<Node> = Vec::new();
    for number in 0..10 {
        let node = start(&format!("n{number}"), |_| {}).await;
        if let Some(last) = nodes.last() {
            node.join(last).await;
        }
        nodes.push(node);
    }
    eventually("all know all", || nodes.iter().all(|node| node.alive() == 10)).await;
    stop(nodes).await;
}

#[tokio::test]
async fn a_pool_that_cannot_work_says_why() {
    let (udp, tcp, address) = sockets();
    let mut config = Config::new("a", "id", dc("dc1"), SocketAddr::from(([0, 0, 0, 0], address.port())));
    let error = lan(config.clone(), udp, tcp).await.err().unwrap();
    assert!(error.to_string().contains("advertise"), "{error}");
    config.address = address;
    config.tags = (0..65).map(|n| (format!("tag-{n}"), String::new())).collect();
    let (udp, tcp, _) = sockets();
    assert!(lan(config, udp, tcp).await.is_err());
}
