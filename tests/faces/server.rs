//! The real server in this process, on either database.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use diesel::{Connection as _, RunQueryDsl as _, SqliteConnection, connection::SimpleConnection as _};
use watchpost::{
    cli::server::{ConnectionLimits, Parts, Server, bind},
    clock::{SharedClock, SystemClock},
    config::Config,
    entropy::SystemEntropy,
    runtime::Tasks,
};

use crate::{
    http::Ask,
    support::postgres::{TestDatabase, database},
};

/// Everything a request can leave behind, and how often channels were changed.
const STORED: &str = "select cast((select count(*) from channels) as text) || ' channels, ' \
    || cast((select coalesce(sum(rev), 0) from channels where state <> 'gone') as text) || ' revisions, ' \
    || cast((select count(*) from resources) as text) || ' resources, ' \
    || cast((select count(*) from events) as text) || ' events, ' \
    || cast((select count(*) from idempotency_keys) as text) || ' keys' as stored";

pub struct TestServer {
    pub server: Option<Server>,
    pub address: SocketAddr,
    database: Database,
    folder: PathBuf,
}

enum Database {
    File,
    Postgres { client: Box<tokio_postgres::Client>, _dropped: TestDatabase },
}

impl TestServer {
    pub async fn sqlite() -> Self {
        Self::sqlite_with(&[]).await
    }

    pub async fn sqlite_with(settings: &[(&str, &str)]) -> Self {
        Self::on(settings, Arc::new(SystemClock::new()), ConnectionLimits::default()).await
    }

    /// The same with a clock and a listener of the test's own.
    pub async fn on(settings: &[(&str, &str)], clock: SharedClock, limits: ConnectionLimits) -> Self {
        let folder = folder();
        let url = format!("sqlite:{}", folder.join("watchpost.db").display());
        let (server, address) =
            start(&[&[("DATABASE_URL", url.as_str())], settings].concat(), clock, limits).await;
        Self { server: Some(server), address, database: Database::File, folder }
    }

    pub async fn postgres() -> Self {
        let database = database();
        let folder = folder();
        let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let state = folder.display().to_string();
        let pairs = [("DATABASE_URL", database.url()), ("MASTER_KEY", key), ("STATE_DIR", &state)];
        let (server, address) =
            start(&pairs, Arc::new(SystemClock::new()), ConnectionLimits::default()).await;
        let (client, connection) =
            tokio_postgres::connect(database.url(), tokio_postgres::NoTls).await.unwrap();
        Tasks::current().spawn("test connection", connection);
        Self {
            server: Some(server),
            address,
            database: Database::Postgres { client: Box::new(client), _dropped: database },
            folder,
        }
    }

    pub fn ask(&self, method: &str, target: &str) -> Ask {
        Ask::new(self.address, method, target)
    }

    /// A token of this server's own key.
    pub fn token(&self, project: &str, subject: &str, scopes: &str) -> String {
        self.token_for(project, subject, scopes, &[], Duration::ZERO)
    }

    /// What commands beside the server mint.
    pub fn operator_token(&self) -> String {
        let app = &self.server.as_ref().unwrap().app;
        let scopes = BTreeSet::from(["operator".to_owned()]);
        app.keys.operator.mint("p", "s", &scopes, &[], Duration::from_hours(1), app.now()).unwrap()
    }

    /// The same for some resources only, minted `ago`; it lives for an hour.
    pub fn token_for(
        &self,
        project: &str,
        subject: &str,
        scopes: &str,
        resources: &[&str],
        ago: Duration,
    ) -> String {
        let app = &self.server.as_ref().unwrap().app;
        let scopes: BTreeSet<String> = scopes.split_ascii_whitespace().map(str::to_owned).collect();
        let resources: Vec<String> = resources.iter().map(|&pattern| pattern.to_owned()).collect();
        let now = app.now().minus(ago);
        app.keys.jwt.mint(project, subject, &scopes, &resources, Duration::from_hours(1), now).unwrap()
    }

    /// What the store holds.
    pub async fn stored(&self) -> String {
        match &self.database {
            Database::File => {
                #[derive(diesel::QueryableByName)]
                struct Row {
                    #[diesel(sql_type = diesel::sql_types::Text)]
                    stored: String,
                }
                let path = self.folder.join("watchpost.db");
                let mut connection = SqliteConnection::establish(&path.to_string_lossy()).unwrap();
                connection.batch_execute("pragma busy_timeout = 5000").unwrap();
                diesel::sql_query(STORED).get_result::<Row>(&mut connection).unwrap().stored
            }
            Database::Postgres { client, .. } => client.query_one(STORED, &[]).await.unwrap().get(0),
        }
    }

    /// The bytes of every file of an embedded store, and of what lies beside it.
    pub fn files(&self) -> Vec<Vec<u8>> {
        let files = std::fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.is_file()).map(|path| std::fs::read(path).unwrap()).collect()
    }

    pub async fn stop(mut self) {
        self.server.take().unwrap().stop().await;
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _removed = std::fs::remove_dir_all(&self.folder);
    }
}

/// A new, empty folder.
pub fn folder() -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("watchpost-faces-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

async fn start(
    settings: &[(&str, &str)],
    clock: SharedClock,
    limits: ConnectionLimits,
) -> (Server, SocketAddr) {
    let usual = [
        ("LISTEN", "127.0.0.1:0"),
        ("TRUSTED_PROXIES", "127.0.0.0/8"),
        ("EGRESS_ALLOW", "127.0.0.0/8"),
        ("RETRY_SCHEDULE", "0s,1h"),
    ];
    let config = Config::from_pairs(&[&usual[..], settings].concat()).unwrap();
    let parts = Parts {
        listener: bind(config.listen, "LISTEN").unwrap(),
        config,
        clock,
        entropy: Arc::new(SystemEntropy),
        ops_listener: None,
        limits,
        extra: None,
        pulse: false,
    };
    let server = Server::start(parts).await.unwrap();
    let address = server.address;
    (server, address)
}
