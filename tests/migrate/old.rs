//! A database as an earlier release left it, made from that release's own files:
//! `version_13.tar.gz` has its folder `migrations`, as it was before version 14.

use std::path::Path;
use std::process::Command;

use host_queue::migrate::{File, Migrations};
use tokio_postgres::Client;

use crate::harness::repository;
use crate::harness::server::scratch_dir;

/// The files of version 13.
pub fn version_13() -> Migrations {
    let dir = scratch_dir();
    let archive = repository().join("tests/migrate/version_13.tar.gz");
    let status = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(&dir).status();
    assert!(status.expect("run tar").success());
    let mut files = Vec::new();
    collect(&dir, &dir, &mut files);
    let files = Migrations::parse(files).unwrap();
    assert_eq!(files.version(), 13);
    files
}

fn collect(root: &Path, dir: &Path, files: &mut Vec<File>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let sql = std::fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root).unwrap().display().to_string();
            files.push(File { path, sql });
        }
    }
}

/// Does what the runner of an earlier release did on a new database.
pub async fn migrate_as_then(client: &Client, files: &Migrations) {
    let apply = async |file: &File| {
        client.batch_execute(&file.sql).await.unwrap_or_else(|e| panic!("{}: {e:?}", file.path));
    };
    apply(&files.bootstrap).await;
    for migration in &files.numbered {
        apply(&migration.file).await;
        let call = "SELECT host.migration_record($1, $2, $3)";
        let (name, sha256) = (migration.name(), migration.file.sha256());
        client.execute(call, &[&migration.version, &name, &sha256]).await.unwrap();
    }
    for file in &files.functions {
        apply(file).await;
    }
    let names: Vec<_> = files.templates.iter().map(|file| &file.path["queue/".len()..]).collect();
    let bodies: Vec<_> = files.templates.iter().map(|file| &file.sql).collect();
    let call = "SELECT host.migration_record_functions($1, $2, $3)";
    client.execute(call, &[&names, &bodies, &files.functions_sha256()]).await.unwrap();
    client.execute("SELECT host.migration_grant()", &[]).await.unwrap();
}
