//! A program and a data directory for servers of other users, who may not read what is below a home directory.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use crate::harness::Launch;

/// A program and data that every user may read.
pub(crate) struct Public {
    place: tempfile::TempDir,
}

impl Public {
    pub(crate) fn new() -> Public {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_cloudia"), place.path().join("cloudia")).unwrap();
        Public { place }
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.place.path().join("cloudia")
    }

    pub(crate) fn data(&self, who: &str) -> PathBuf {
        let data = self.place.path().join(who);
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("alive.txt"), "alive\n").unwrap();
        fs::write(data.join("who.txt"), who).unwrap();
        data
    }

    pub(crate) fn launch(&self, launch: Launch, who: &str) -> Launch {
        launch.data(self.data(who)).program(self.program()).flag("--config", self.settings().display())
    }

    /// Empty: it is there so that the working directory, which others may not read, is not looked at.
    fn settings(&self) -> PathBuf {
        let path = self.place.path().join("settings.toml");
        File::create(&path).unwrap();
        path
    }
}
