//! pg_upgrade: transaction ids go on, in a cluster of another name.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;

use super::*;

#[tokio::test]
async fn an_upgraded_cluster_goes_on_with_what_was_left() {
    let (old_dir, new_dir) = (scratch_dir(), scratch_dir());
    let start = async |dir: &std::path::Path| {
        let server = Embedded::start_with(dir, &[("fsync", "off")]).await.expect("a server");
        quit_with_us(server.pid());
        server
    };
    let (old, new) = (start(&old_dir).await, start(&new_dir).await);
    let upgrade = old.programs().join("pg_upgrade");
    if !upgrade.is_file() {
        eprintln!("this PostgreSQL comes without pg_upgrade: not tested");
        return;
    }
    let before = TestDb::elsewhere("postgres", old.url());
    before.host(&["migrate"]).await.ok();
    busy_queue(&before).await;
    let [old_data, new_data] = [&old, &new].map(|server| server.place().join("data"));
    let programs = old.programs().to_owned();
    let dump = scratch_dir();
    assert!(old.stop_if_last().await.unwrap() && new.stop_if_last().await.unwrap());

    let owner = std::fs::metadata(&new_data).unwrap();
    nix::unistd::chown(&dump, Some(owner.uid().into()), Some(owner.gid().into())).unwrap();
    let mut command = Command::new(&upgrade);
    command
        .args(["--username", "postgres", "--socketdir"])
        .arg(&dump)
        .arg("--old-bindir")
        .arg(&programs);
    command.arg("--new-bindir").arg(&programs).arg("--old-datadir").arg(&old_data);
    command.arg("--new-datadir").arg(&new_data).current_dir(&dump);
    if crate::harness::server::is_root() {
        command.uid(owner.uid()).gid(owner.gid());
    }
    let output = command.output().expect("run pg_upgrade");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));

    let (old, new) = (start(&old_dir).await, start(&new_dir).await);
    let before = TestDb::elsewhere("postgres", old.url());
    let after = TestDb::elsewhere("postgres", new.url());
    check_restored(&before, &after, &[]).await;
    assert!(old.stop_if_last().await.unwrap() && new.stop_if_last().await.unwrap());
}
