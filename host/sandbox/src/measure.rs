//! How much of what costs a host a component has: for its compiler, and each time that a sandbox is
//! made. The bytes of a file say little of either: an empty function takes three of them and
//! kilobytes of the compiler, and one module may be started many times. Never judges.

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, ElementItems, Instance, Parser, Payload,
};

/// What an entry of a table costs while a sandbox is made, in bytes that are copied.
const ELEMENT_BYTES: u64 = 16;

/// The numbers of a component, over all of its modules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Measure {
    pub(super) functions: u64,
    pub(super) largest_function_bytes: u64,
    /// Entries of tables, as its modules set them when they start.
    pub(super) elements: u64,
    /// Data segments.
    pub(super) data_bytes: u64,
    /// What making one sandbox copies: data and entries of tables, of a module as often as it is
    /// started.
    pub(super) start_bytes: u64,
}

impl std::fmt::Display for Measure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { functions, largest_function_bytes, elements, .. } = self;
        write!(
            f,
            "{functions} functions, the largest of {largest_function_bytes} bytes, and {elements} table entries"
        )
    }
}

/// A module or component whose end has not come, and what one start of what is in it copies.
#[derive(Default)]
struct Frame {
    is_module: bool,
    start_bytes: u64,
    modules: Vec<u64>,
    components: Vec<u64>,
}

impl Measure {
    /// Of a file that may be damaged: then of what comes before.
    pub(super) fn of(wasm: &[u8]) -> Self {
        let mut measure = Self::default();
        // What cannot be read is for others to refuse.
        let _ = measure.read(wasm);
        measure
    }

    fn read(&mut self, wasm: &[u8]) -> wasmparser::Result<()> {
        let mut frames = vec![Frame::default()];
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload?;
            match &payload {
                Payload::ModuleSection { .. } => {
                    frames.push(Frame { is_module: true, ..Frame::default() });
                }
                Payload::ComponentSection { .. } => frames.push(Frame::default()),
                Payload::End(_) if frames.len() > 1 => {
                    let ended = frames.pop().unwrap_or_default();
                    let around = frames.last_mut().expect("the whole is around all");
                    let kind =
                        if ended.is_module { &mut around.modules } else { &mut around.components };
                    kind.push(ended.start_bytes);
                }
                _ => self.add(&payload, &mut frames)?,
            }
            self.start_bytes = frames[0].start_bytes;
        }
        Ok(())
    }

    fn add(&mut self, payload: &Payload<'_>, frames: &mut [Frame]) -> wasmparser::Result<()> {
        let unknown = self.data_bytes + self.elements * ELEMENT_BYTES;
        let (frame, around) = frames.split_last_mut().expect("the whole is around all");
        match payload {
            Payload::CodeSectionStart { count, .. } => self.functions += u64::from(*count),
            Payload::CodeSectionEntry(body) => {
                let bytes = body.range().len() as u64;
                self.largest_function_bytes = self.largest_function_bytes.max(bytes);
            }
            Payload::DataSection(segments) => {
                for segment in segments.clone() {
                    let bytes = segment?.data.len() as u64;
                    self.data_bytes += bytes;
                    frame.start_bytes += bytes;
                }
            }
            Payload::ElementSection(segments) => {
                for segment in segments.clone() {
                    let entries = match segment?.items {
                        ElementItems::Functions(entries) => entries.count(),
                        ElementItems::Expressions(_, entries) => entries.count(),
                    };
                    self.elements += u64::from(entries);
                    frame.start_bytes += u64::from(entries) * ELEMENT_BYTES;
                }
            }
            Payload::InstanceSection(instances) => {
                for instance in instances.clone() {
                    if let Instance::Instantiate { module_index, .. } = instance? {
                        let bytes = frame.modules.get(module_index as usize).copied();
                        frame.start(bytes);
                    }
                }
            }
            Payload::ComponentInstanceSection(instances) => {
                for instance in instances.clone() {
                    if let ComponentInstance::Instantiate { component_index, .. } = instance? {
                        let bytes = frame.components.get(component_index as usize).copied();
                        frame.start(bytes);
                    }
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases.clone() {
                    frame.alias(&alias?, around, unknown);
                }
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports.clone() {
                    match import?.ty {
                        ComponentTypeRef::Module(_) => frame.modules.push(unknown),
                        ComponentTypeRef::Component(_) => frame.components.push(unknown),
                        _ => {}
                    }
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports.clone() {
                    let export = export?;
                    // What is exported has a further index from then on.
                    frame.export(export.kind, export.index as usize);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Frame {
    /// Notes that a thing is started that copies so many bytes; `None`: it is not there.
    fn start(&mut self, bytes: Option<u64>) {
        self.start_bytes = self.start_bytes.saturating_add(bytes.unwrap_or(0));
    }

    fn export(&mut self, kind: ComponentExternalKind, index: usize) {
        let all = match kind {
            ComponentExternalKind::Module => &mut self.modules,
            ComponentExternalKind::Component => &mut self.components,
            _ => return,
        };
        let bytes = all.get(index).copied().unwrap_or(0);
        all.push(bytes);
    }

    /// `around`: what this is in, the innermost last. `unknown`: what a thing counts that is known
    /// only when it runs.
    fn alias(&mut self, alias: &ComponentAlias<'_>, around: &[Self], unknown: u64) {
        match alias {
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Module, .. } => {
                self.modules.push(unknown);
            }
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. } => {
                self.components.push(unknown);
            }
            ComponentAlias::Outer { kind, count, index } => {
                let outer = (*count as usize).checked_sub(1).map(|up| around.iter().nth_back(up));
                let from: &Self = outer.flatten().unwrap_or(self);
                let nth = |all: &[u64]| all.get(*index as usize).copied().unwrap_or(0);
                match kind {
                    ComponentOuterAliasKind::CoreModule => {
                        let bytes = nth(&from.modules);
                        self.modules.push(bytes);
                    }
                    ComponentOuterAliasKind::Component => {
                        let bytes = nth(&from.components);
                        self.components.push(bytes);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
}
