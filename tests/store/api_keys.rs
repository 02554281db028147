//! API keys are found by their hash, while they live, and listed by their project.

use std::time::Duration;

use watchpost::store::{ApiKey, NewApiKey, Store};

use crate::{
    base::Base,
    build::{PROJECT, at},
};

on_both!(
    a_key_is_found_by_its_hash_while_it_lives,
    keys_are_of_one_project,
    a_revoked_key_is_gone_on_every_node
);

fn new(project: &str, number: u8) -> NewApiKey {
    NewApiKey {
        project: project.to_owned(),
        id: format!("key_{number}"),
        name: None,
        subject: "s".to_owned(),
        scopes: "channels events".to_owned(),
        resources: Some(vec!["a/**".to_owned()]),
        expires_at: None,
        hash: [number; 32],
    }
}

async fn add(store: &Store, project: &str, number: u8) -> ApiKey {
    store.add_api_key(new(project, number), at(0)).await.unwrap()
}

async fn a_key_is_found_by_its_hash_while_it_lives(base: Base) {
    let store = base.store().await;
    let endless = add(&store, PROJECT, 1).await;
    let ends = NewApiKey {
        expires_at: Some(at(10)),
        name: Some("x".to_owned()),
        resources: None,
        ..new(PROJECT, 2)
    };
    let ends = store.add_api_key(ends, at(0)).await.unwrap();
    assert_eq!((ends.expires_at, ends.name.as_deref(), &ends.resources), (Some(at(10)), Some("x"), &None));
    let find = async |hash, now| store.api_key_by_hash([hash; 32], now).await.unwrap();
    assert_eq!(find(1, at(1_000)).await, Some(endless.clone()));
    assert_eq!(find(2, at(9)).await, Some(ends.clone()));
    assert_eq!(find(2, at(10)).await, None);
    assert_eq!(find(3, at(0)).await, None);
    store.use_api_key(PROJECT, endless.row, at(7)).await.unwrap();
    assert_eq!(find(1, at(8)).await.unwrap().last_used_at, Some(at(7)));
    assert!(store.add_api_key(new("other", 1), at(0)).await.is_err(), "a hash stands for one key");
    assert_eq!(store.api_keys(PROJECT, None, 10).await.unwrap().len(), 2);
}

async fn keys_are_of_one_project(base: Base) {
    let store = base.store().await;
    for (project, number) in [(PROJECT, 1), ("other", 2), (PROJECT, 3), (PROJECT, 4)] {
        add(&store, project, number).await;
    }
    let ids = async |before, limit| -> Vec<(i64, String)> {
        let page = store.api_keys(PROJECT, before, limit).await.unwrap();
        page.into_iter().map(|key| (key.row, key.id)).collect()
    };
    let first = ids(None, 2).await;
    assert_eq!(first.iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>(), ["key_4", "key_3"]);
    let rest = ids(Some(first[1].0), 2).await;
    assert_eq!(rest.iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>(), ["key_1"]);
    assert!(!store.delete_api_key(PROJECT, "key_2").await.unwrap(), "another project's");
    let row = store.api_keys("other", None, 1).await.unwrap()[0].row;
    store.use_api_key(PROJECT, row, at(1)).await.unwrap();
    assert_eq!(store.api_keys("other", None, 1).await.unwrap()[0].last_used_at, None);
}

async fn a_revoked_key_is_gone_on_every_node(base: Base) {
    let nodes = base.nodes().await;
    add(&nodes[0], PROJECT, 1).await;
    for node in &nodes {
        assert!(node.api_key_by_hash([1; 32], at(0).plus(Duration::from_secs(1))).await.unwrap().is_some());
    }
    assert!(nodes[0].delete_api_key(PROJECT, "key_1").await.unwrap());
    for node in &nodes {
        assert_eq!(node.api_key_by_hash([1; 32], at(1)).await.unwrap(), None);
        assert!(!node.delete_api_key(PROJECT, "key_1").await.unwrap());
    }
}
