//! The least that is a pooler in transaction mode: all clients share one connection to the server,
//! for the length of a query.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Mutex;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// Answers at the port that it returns, on behalf of the server of that URL (a socket without
/// password).
pub async fn start(url: &str) -> u16 {
    let config: Config = url.parse().unwrap();
    let Host::Unix(dir) = &config.get_hosts()[0] else { panic!("{url}") };
    let socket = dir.join(format!(".s.PGSQL.{}", config.get_ports()[0]));
    let mut server = UnixStream::connect(socket).await.unwrap();
    let database = config.get_dbname().unwrap();
    let parameters = format!("user\0postgres\0database\0{database}\0\0");
    let mut startup = (parameters.len() as u32 + 8).to_be_bytes().to_vec();
    startup.extend(196_608_u32.to_be_bytes());
    startup.extend(parameters.as_bytes());
    server.write_all(&startup).await.unwrap();
    until_ready(&mut server).await;
    let server = Arc::new(Mutex::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve(client, server.clone()));
        }
    });
    port
}

async fn serve(mut client: TcpStream, server: Arc<Mutex<UnixStream>>) {
    let length = client.read_u32().await.unwrap();
    let mut startup = vec![0; length as usize - 4];
    client.read_exact(&mut startup).await.unwrap();
    // Authenticated; ready.
    client.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await.unwrap();
    while let Some((kind, query)) = message(&mut client).await {
        // A simple query is all that is asked of it; `X` says goodbye.
        if kind != b'Q' {
            break;
        }
        let mut server = server.lock().await;
        server.write_all(&query).await.unwrap();
        let reply = until_ready(&mut server).await;
        client.write_all(&reply).await.unwrap();
    }
}

/// One message, whole.
async fn message(from: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<(u8, Vec<u8>)> {
    let kind = from.read_u8().await.ok()?;
    let length = from.read_u32().await.ok()?;
    let mut whole = vec![0; length as usize + 1];
    whole[0] = kind;
    whole[1..5].copy_from_slice(&length.to_be_bytes());
    from.read_exact(&mut whole[5..]).await.ok()?;
    Some((kind, whole))
}

/// All that the server says until it is ready for more.
async fn until_ready(server: &mut UnixStream) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let (kind, whole) = message(server).await.expect("the server");
        all.extend(whole);
        if kind == b'Z' {
            return all;
        }
    }
}
