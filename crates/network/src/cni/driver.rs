//! The driver: lease, entry of the cache, namespace, plugins, tap; and all of it back.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use firebuild_core::MachineId;
use serde_json::{Map, Value};

use super::attachment::{Directories, Request, Settings};
use super::cache::{Cache, Entry};
use super::configuration::NetworkList;
use super::error::CniError;
use super::lease::{Lease, Leases};
use super::plugin::Sandbox;
use super::redirect::{self, Facts, Redirected};
use super::result::Outcome;
use super::search::{self, Configured};
use super::ways::Ways;
use super::{capabilities, chain, host_local, orphan, stand_in};
use crate::error::Trouble;
use crate::netlink::Netlink;
use crate::resolver::Resolver;
use crate::{Attachment, Error, Errors, Interface, Listener, Namespace};
use crate::{inside, namespace, reserve};

/// The device that plugins are asked to make.
const DEVICE: &str = "eth0";

/// What stands between the network's name and the VM's id in the name of a namespace. No VM of the
/// built-in network has such a name.
const NAMESPACE: &str = "-cni-";

/// An entry of the cache, and in which one it is.
type Found = Result<(Cache, Entry), Error>;

/// The driver of networks by CNI.
#[derive(Debug, Clone)]
pub struct Cni {
    settings: Settings,
}

impl Cni {
    /// A driver. Touches nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// The namespace that a VM has or would have.
    #[must_use]
    pub fn namespace(&self, id: &MachineId) -> Namespace {
        let Settings {
            name, namespaces, ..
        } = &self.settings;
        Namespace::at(namespaces.join(format!("{name}{NAMESPACE}{id}")))
    }

    /// Checks a request as far as that goes without changing anything: that there is such a network,
    /// that its plugins are there and ready, and that it can do what is asked.
    ///
    /// # Errors
    /// What [`setup`](Self::setup) would find wrong with the request.
    pub fn validate(&self, request: &Request) -> Result<(), Error> {
        let entry = self.entry(request, &[])?;
        let mut netlink = Netlink::of_thread()?;
        let listeners = reserve::listeners(&request.ports, &mut netlink, false)?;
        Ok(self.ready(request, &entry, &listeners)?)
    }

    /// Attaches a VM. Takes as long as the network's plugins do. After an error nothing is left, or
    /// what is left is in [`known`](Self::known).
    ///
    /// # Errors
    /// There is no such network, it cannot do what is asked, one of its plugins refuses, a port
    /// cannot be had, the VM is attached already, the host refuses something.
    pub fn setup(&self, request: &Request) -> Result<Attachment, Error> {
        let mut netlink = Netlink::of_thread()?;
        let listeners = reserve::listeners(&request.ports, &mut netlink, false)?;
        let mut entry = self.entry(request, &listeners)?;
        self.ready(request, &entry, &listeners)?;
        let reserved = listeners.iter().map(reserve::reserve);
        let reserved = reserved.collect::<Result<Vec<_>, _>>()?;
        let number = self.claim(request)?;
        let made = self.build(request, &mut entry);
        let Redirected { tap, facts } = match made {
            Ok(made) => made,
            Err(error) => {
                // The first error tells more than any that comes of it.
                let _ = self.teardown(&request.id);
                return Err(error);
            }
        };
        let interface = self.interface(&entry, facts, listeners);
        let namespace = self.namespace(&request.id);
        Ok(Attachment::new(
            namespace,
            vec![interface],
            Some(number),
            vec![tap],
            reserved,
        ))
    }

    /// Has the network's plugins check that everything is as they made it, where they can.
    ///
    /// # Errors
    /// The VM is not attached, or a plugin finds something amiss.
    pub fn check(&self, id: &MachineId) -> Result<(), Error> {
        let found = self.entries(id)?;
        for found in found {
            let (_, entry) = found?;
            chain::check(&entry, &self.sandbox(&entry, true))?;
        }
        Ok(())
    }

    /// Removes a VM's attachment, or what there is of it, by the VM's id alone. Goes on after an
    /// error. The network's configuration is not needed: it is taken as it was.
    ///
    /// Ends no process of the VM. Plugins that still work for it because who asked them was killed
    /// are waited for, and killed if they take too long.
    ///
    /// # Errors
    /// All that went wrong. The VM stays in [`known`](Self::known) until a teardown succeeds.
    pub fn teardown(&self, id: &MachineId) -> Result<(), Errors> {
        let mut trouble = Trouble::default();
        if trouble.note(self.has(id)) == Some(false) {
            return Ok(());
        }
        trouble.note(
            orphan::end(id, self.settings.plugin_time).map_err(Error::system(format!(
                "wait for the CNI plugins that are at work for VM `{id}`"
            ))),
        );
        for found in trouble.note(self.entries(id)).unwrap_or_default() {
            let Some((cache, entry)) = trouble.note(found) else {
                continue;
            };
            let lacks_device = stand_in::is_wanted(&entry);
            let here = self.namespace_is_there(&entry);
            let refused = chain::delete(&entry, &self.sandbox(&entry, here));
            if lacks_device && stand_in::make(&entry).is_ok() {
                chain::delete_masquerading(&entry, &self.sandbox(&entry, true));
            }
            trouble.note(self.sweep(&entry.list));
            if refused.is_empty() {
                trouble.note(cache.remove(&entry).map_err(Error::from));
            }
            for error in refused {
                trouble.note::<()>(Err(error.into()));
            }
        }
        for cache in trouble.note(self.caches(id)).unwrap_or_default() {
            trouble.note(cache.remove_half(id).map_err(Error::from));
        }
        trouble.note(self.namespace(id).remove());
        if trouble.is_none() {
            trouble.note(self.lock().and_then(|leases| leases.remove(id)));
        }
        trouble.into_result()
    }

    /// The VMs of this state root that have an attachment or part of one, and those that have a
    /// part and belong to no state root.
    ///
    /// # Errors
    /// The host's state cannot be read.
    pub fn known(&self) -> Result<Vec<MachineId>, Error> {
        let owner = &self.settings.owner;
        // A lease is there before its namespace, and while it is locked none comes or goes.
        let leases = self.lock()?;
        let mut known = BTreeSet::new();
        for (id, of) in leases.all()? {
            if of.is_none_or(|of| of == *owner) {
                known.insert(id);
            }
        }
        let prefix = format!("{}{NAMESPACE}", self.settings.name);
        for file in namespace::names_in(&self.settings.namespaces)? {
            let id = file.strip_prefix(&prefix).map(str::parse::<MachineId>);
            known.extend(id.and_then(Result::ok).filter(|id| !leases.has(id)));
        }
        known.extend(self.cache().machines_of(owner)?);
        Ok(known.into_iter().collect())
    }

    /// Has a network's plugins remove whatever they have for VMs and containers that are not
    /// attached any more, if they can and the configuration does not forbid it.
    ///
    /// # Errors
    /// All that went wrong.
    pub fn collect(&self, network: &str) -> Result<(), Errors> {
        let mut trouble = Trouble::default();
        let collected = || {
            let list = search::network(&self.settings.directories.configurations, network)?;
            let attachments = self.cache().attachments(network)?;
            let nobody = Map::new();
            let sandbox = self.of_nobody(&nobody);
            let errors = chain::collect(&list, &sandbox, &attachments);
            Ok::<_, CniError>((list, errors))
        };
        match collected() {
            Ok((list, errors)) => {
                for error in errors {
                    trouble.note::<()>(Err(error.into()));
                }
                trouble.note(self.sweep(&list));
            }
            Err(error) => {
                trouble.note::<()>(Err(error.into()));
            }
        }
        trouble.into_result()
    }

    /// Removes what no plugin removes.
    fn sweep(&self, list: &NetworkList) -> Result<(), Error> {
        let doing = || format!("release addresses of the CNI network `{}`", list.name);
        host_local::sweep(list).map_err(|source| Error::System {
            doing: doing(),
            source,
        })
    }

    /// The networks that are configured, and the files that are none.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn networks(&self) -> Result<Vec<Configured>, Error> {
        let directories = &self.settings.directories;
        Ok(search::networks(&directories.configurations)?)
    }

    /// What the cache is to have of a VM, before anything is added.
    fn entry(&self, request: &Request, listeners: &[Listener]) -> Result<Entry, CniError> {
        let Directories {
            configurations,
            programs,
            ..
        } = &self.settings.directories;
        let list = search::network(configurations, &request.network)?;
        Ok(Entry {
            machine: request.id.clone(),
            owner: self.settings.owner.clone(),
            programs: programs.clone(),
            namespace: self.namespace(&request.id).path().display().to_string(),
            device: DEVICE.to_owned(),
            arguments: capabilities::arguments(request, &list),
            capabilities: capabilities::values(request, listeners),
            list,
            outcome: None,
        })
    }

    fn ready(
        &self,
        request: &Request,
        entry: &Entry,
        listeners: &[Listener],
    ) -> Result<(), CniError> {
        let list = &entry.list;
        if request.egress.has_names() {
            return Err(CniError::NoNames(list.name.clone()));
        }
        if !listeners.is_empty() && !list.has_capability(capabilities::PORTS) {
            return Err(CniError::NoPorts(list.name.clone()));
        }
        let programs = &self.settings.directories.programs;
        let plugins = list.plugins.iter();
        for plugin in plugins.filter(|plugin| plugin.kind != chain::REDIRECT) {
            if search::program(programs, &plugin.kind).is_none() {
                return Err(CniError::PluginMissing {
                    network: list.name.clone(),
                    plugin: plugin.kind.clone(),
                    directories: search::shown(programs),
                });
            }
        }
        chain::status(list, &self.sandbox(entry, false))
    }

    /// Under the lock of the leases. Returns the VM's number.
    fn claim(&self, request: &Request) -> Result<u16, Error> {
        let leases = self.lock()?;
        if leases.has(&request.id) {
            return Err(Error::Attached(request.id.clone()));
        }
        let number = leases.free_number()?;
        leases.insert(&Lease {
            number,
            id: request.id.clone(),
            owner: self.settings.owner.clone(),
            cache: self.settings.directories.cache.clone(),
        })?;
        Ok(number)
    }

    fn build(&self, request: &Request, entry: &mut Entry) -> Result<Redirected, Error> {
        let namespace = self.namespace(&request.id);
        let cache = self.cache();
        cache.write(entry)?;
        namespace::prepare_directory(&self.settings.namespaces)?;
        // What a VM of this id left, before a restart of the host or by hand, is not this VM's.
        namespace.remove()?;
        namespace.create(inside::prepare)??;
        let entering = || Error::system("enter the VM's network namespace");
        let network = entry.list.name.clone();
        let path = entry.namespace.clone();
        let sandbox = redirect::Sandbox {
            network: &network,
            container: request.id.as_str(),
            namespace: &path,
            device: DEVICE,
            user: (request.vmm_uid, request.vmm_gid),
        };
        let mut make = |outcome: &mut Outcome| {
            namespace
                .run(|| redirect::make(outcome, &sandbox))
                .map_err(entering())?
        };
        let plugins = entry.clone();
        let mut tap = chain::add(entry, &self.sandbox(&plugins, true), &cache, &mut make)?;
        // A tap that no plugin knows of is in no result that plugins get.
        let mut outcome = entry.outcome.clone().unwrap_or_default();
        if tap.is_none() && !redirect::has_tap(&outcome, request.id.as_str()) {
            tap = Some(make(&mut outcome)?);
        }
        let name = &self.settings.name;
        let joined = namespace.run(|| redirect::join(name, &outcome, &sandbox, tap, request));
        let joined = joined.map_err(entering())??;
        match request
            .address
            .filter(|wanted| *wanted != joined.facts.address)
        {
            None => Ok(joined),
            Some(wanted) => Err(CniError::OtherAddress {
                network,
                wanted,
                given: joined.facts.address,
            }
            .into()),
        }
    }

    fn interface(&self, entry: &Entry, facts: Facts, listeners: Vec<Listener>) -> Interface {
        let outcome = entry.outcome.clone().unwrap_or_default();
        let ways = Ways::of(&outcome, facts.address, facts.subnet);
        let mut dns: Vec<Ipv4Addr> = outcome
            .dns
            .nameservers
            .iter()
            .filter_map(|server| server.parse().ok())
            .collect();
        if dns.is_empty() {
            dns = Resolver::of_host(&self.settings.resolv_conf).direct();
        }
        let mut search = outcome.dns.search;
        if search.is_empty() && !outcome.dns.domain.is_empty() {
            search.push(outcome.dns.domain);
        }
        let on_host = outcome
            .interfaces
            .iter()
            .rev()
            .find(|made| made.sandbox.is_empty());
        Interface {
            network: entry.list.name.clone(),
            tap: facts.tap,
            mac: facts.mac,
            address: facts.address,
            subnet: facts.subnet,
            gateway: ways.gateway,
            routes: ways.others,
            ipv6: facts.ipv6,
            mtu: Some(facts.mtu),
            dns,
            search,
            bridge: String::new(),
            host_device: on_host.map(|made| made.name.clone()).unwrap_or_default(),
            listeners,
        }
    }

    /// Where entries of a VM are: where its lease says that they are, and where they usually are.
    fn caches(&self, id: &MachineId) -> Result<Vec<Cache>, Error> {
        let leased = self.lock()?.get(id).map(|lease| lease.cache);
        let usual = &self.settings.directories.cache;
        let leased = leased.filter(|leased| leased != usual);
        let directories = leased.iter().chain([usual]);
        Ok(directories.map(|it| Cache::new(it)).collect())
    }

    /// The entries of a VM.
    fn entries(&self, id: &MachineId) -> Result<Vec<Found>, Error> {
        let mut entries = Vec::new();
        for cache in self.caches(id)? {
            let found = cache.of_machine(id)?.into_iter();
            entries.extend(found.map(|entry| Ok((cache.clone(), entry?))));
        }
        Ok(entries)
    }

    /// Whether there is anything of a VM: many VMs have never been in a network by CNI.
    fn has(&self, id: &MachineId) -> Result<bool, Error> {
        let has = self.lock()?.has(id) || fs_err::exists(self.namespace(id).path())?;
        let cache = self.cache();
        Ok(has || !cache.of_machine(id)?.is_empty() || cache.has_half(id)?)
    }

    fn namespace_is_there(&self, entry: &Entry) -> bool {
        // After a restart of the host there may be a file, which is no namespace.
        Namespace::at(&entry.namespace).run(|| ()).is_ok()
    }

    fn sandbox<'a>(&self, entry: &'a Entry, namespace: bool) -> Sandbox<'a> {
        Sandbox {
            container: entry.machine.as_str(),
            namespace: namespace.then_some(entry.namespace.as_str()),
            device: &entry.device,
            arguments: &entry.arguments,
            programs: &entry.programs,
            capabilities: &entry.capabilities,
            limit: self.settings.plugin_time,
        }
    }

    fn of_nobody<'a>(&'a self, capabilities: &'a Map<String, Value>) -> Sandbox<'a> {
        Sandbox {
            container: "",
            namespace: None,
            device: "",
            arguments: &[],
            programs: &self.settings.directories.programs,
            capabilities,
            limit: self.settings.plugin_time,
        }
    }

    fn cache(&self) -> Cache {
        Cache::new(&self.settings.directories.cache)
    }

    fn lock(&self) -> Result<Leases, Error> {
        let name = format!("{}-cni", self.settings.name);
        Leases::lock(&self.settings.leases.join(name))
    }
}
