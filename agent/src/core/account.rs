//! Users as `/etc/passwd` and `/etc/group` list them.

/// One user of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// Further groups, ascending.
    pub groups: Vec<u32>,
    pub home: String,
}

impl Account {
    /// The user called `name`, from the texts of the two files. Lines that cannot be read count as not there.
    #[must_use]
    pub fn find(passwd: &str, group: &str, name: &str) -> Option<Self> {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name) && !name.is_empty())?;
        let mut fields = line.split(':').skip(2);
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).filter(|home| home.starts_with('/')).unwrap_or("/").to_owned();
        let mut groups: Vec<u32> = group
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(':').skip(2);
                let id = fields.next()?.parse().ok()?;
                fields.next()?.split(',').any(|member| member == name).then_some(id)
            })
            .filter(|id| *id != gid)
            .collect();
        groups.sort_unstable();
        groups.dedup();
        Some(Self { name: name.to_owned(), uid, gid, groups, home })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_with_all_their_groups() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nbroken\n:x:7:7::/:\nnagios:x:113:118::/var/lib/nagios:/bin/sh\n\
                      odd:x:99999999999:1::/:\nhomeless:x:5:6:::\n";
        let group = "root:x:0:\nadm:x:4:syslog,nagios\nnagios:x:118:nagios\nmail:x:8:nagios,root\nnag:x:9:nagio\nbad\n";
        let nagios = Account::find(passwd, group, "nagios").unwrap();
        assert_eq!((nagios.uid, nagios.gid, nagios.groups.as_slice()), (113, 118, [4, 8].as_slice()));
        assert_eq!(nagios.home, "/var/lib/nagios");
        assert_eq!(Account::find(passwd, group, "homeless").map(|user| user.home), Some("/".into()));
        for missing in ["", "nag", "broken", "odd", "x"] {
            assert_eq!(Account::find(passwd, group, missing), None, "{missing}");
        }
    }
}
