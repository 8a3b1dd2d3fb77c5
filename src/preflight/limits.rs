//! What the server has set for segue's role or its database, and how many sessions it lets in.

/// A setting of the role or the database that does not hold for segue's sessions, or harms them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleSetting {
    /// Its name.
    pub name: String,
    /// The value that it is set to.
    pub value: String,
    /// Where it is set: `role "segue"`, `database "shop"`.
    pub place: String,
    /// What segue's sessions have instead; nothing where they keep the value.
    pub overridden_by: Option<String>,
}

/// Sessions that the server lets in, where it counts them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sessions {
    /// Of segue's role.
    pub role_max: Option<u32>,
    /// Of the database, whoever logs in.
    pub database_max: Option<u32>,
    /// That one sidecar may open as segue's role.
    pub of_role: usize,
    /// That one sidecar may open in all.
    pub of_sidecar: usize,
}

/// Settings that harm sessions of segue which keep them, each with the value that does not.
pub(super) const HARMFUL: [(&str, &str); 2] =
    [("session_replication_role", "origin"), ("temp_file_limit", "-1")];

/// Their names.
pub fn harmful_settings() -> impl Iterator<Item = &'static str> {
    HARMFUL.into_iter().map(|(name, _)| name)
}
