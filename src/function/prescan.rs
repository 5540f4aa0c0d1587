//! The scan before the interpreter sees a module: what it costs to load is bounded here, and what it needs is noted.
//!
//! - Streaming: section by section, operator by operator, one validator, no copy of the module.
//! - Counts are checked before a section is validated, heights while a body is: a bomb ends at the ceiling that it passes.
//! - A module that passes is valid, imports host calls only, and loads within some 90 µs and 60 KiB of heap per KiB
//!   (measured on hostile modules; ordinary ones need a tenth).
//!
//! The ceilings pass everything that compilers emit for functions of this size; they are not part of the ABI.

use wasmparser::{
    BinaryReaderError, CompositeInnerType, ConstExpr, DataKind, ElementItems, ElementKind, Encoding, ExternalKind,
    FuncToValidate, FuncValidatorAllocations, FunctionBody, MemoryType, Operator, OperatorsReader, Parser, Payload,
    TypeRef, ValType, ValidPayload, Validator,
};

use super::error::LoadError;
use super::host::{Call, CallSet};
use super::limits::{self, TABLE_ELEMENTS_MAX};
use super::names::Names;
use crate::units::Bytes;

/// A ceiling: what is counted, and how much is taken.
type Ceiling = (&'static str, u64);

const TYPES: Ceiling = ("function types", 256);
const IMPORTS: Ceiling = ("imports", 64);
const EXPORTS: Ceiling = ("exports", 64);
const FUNCTIONS: Ceiling = ("functions", 2000);
const GLOBALS: Ceiling = ("globals", 256);
const MEMORIES: Ceiling = ("memories", 1);
const TABLES: Ceiling = ("tables", 1);
const TABLE: Ceiling = ("table elements", TABLE_ELEMENTS_MAX as u64);
const SEGMENTS: Ceiling = ("element segments", 64);
const ITEMS: Ceiling = ("items of element segments", 1024);
const DATA: Ceiling = ("data segments", 512);
const CONST_OPERATORS: Ceiling = ("operators in a constant expression", 8);
const PARAMETERS: Ceiling = ("parameters or results of a function type", 32);
const LOCALS: Ceiling = ("locals of a function", 1024);
const LOCAL_GROUPS: Ceiling = ("groups of locals of a function", 256);
const NESTING: Ceiling = ("nested blocks of a function", 128);
const HEIGHT: Ceiling = ("values on the operand stack of a function", 1024);
const TARGETS: Ceiling = ("targets of a br_table", 4096);
const TARGETS_TOTAL: Ceiling = ("targets of all br_tables", 16_384);

/// Globals that can be exported for the reset.
const MUTABLE_GLOBALS_MAX: usize = 16;

/// What the scan found out about a module.
#[derive(Debug)]
pub struct Facts {
    /// Host calls that it imports.
    pub calls: CallSet,
    /// Imported functions; the first defined one has this index.
    pub imported_functions: u32,
    /// Globals, all of them defined here.
    pub globals: u32,
    /// The mutable ones, if they can all be saved and restored.
    pub mutable_globals: Vec<u32>,
    /// Why copying memory and globals back does not restore the module; `None`: it does.
    pub not_restorable: Option<&'static str>,
    /// Initial memory.
    pub memory: Bytes,
    /// Function names.
    pub names: Names,
}

/// Where a module says which version of the ABI it speaks.
#[derive(Clone, Copy, Debug)]
enum Mark {
    Missing,
    /// Exported function of this index, whose body was not seen yet.
    Function(u32),
    /// What was read, if it is a constant.
    Read(Option<i32>),
}

fn invalid(error: BinaryReaderError) -> LoadError {
    LoadError::Invalid { at: error.offset(), what: error.message().to_owned() }
}

/// The first bytes of every module (WebAssembly core specification §5.5.16).
const MAGIC: &[u8] = b"\0asm";

fn at_most((what, count_max): Ceiling, count: u64) -> Result<(), LoadError> {
    if count <= count_max { Ok(()) } else { Err(LoadError::Ceiling { what, count, count_max }) }
}

/// Scans a module.
///
/// # Errors
/// The first thing that is not taken, with its place or its count and ceiling.
pub fn scan(wasm: &[u8]) -> Result<Facts, LoadError> {
    if !wasm.starts_with(MAGIC) {
        return Err(LoadError::Invalid { at: 0, what: "it is no WebAssembly at all".to_owned() });
    }
    let mut scan = Scan {
        facts: Facts {
            calls: CallSet::default(),
            imported_functions: 0,
            globals: 0,
            mutable_globals: Vec::new(),
            not_restorable: None,
            memory: Bytes(0),
            names: Names::default(),
        },
        types: Vec::new(),
        constants: Vec::new(),
        exports: Vec::new(),
        mark: Mark::Missing,
        items: 0,
        targets: 0,
        has_memory: false,
    };
    let mut validator = Validator::new_with_features(limits::features());
    let mut parser = Parser::new(0);
    parser.set_features(limits::features());
    let mut allocations = FuncValidatorAllocations::default();
    for payload in parser.parse_all(wasm) {
        let payload = payload.map_err(invalid)?;
        scan.section(&payload)?;
        if let ValidPayload::Func(function, body) = validator.payload(&payload).map_err(invalid)? {
            check_locals(&body)?;
            scan.mark(&function, &body)?;
            let mut function = function.into_validator(allocations);
            scan.body(&mut function, &body)?;
            allocations = function.into_allocations();
        }
    }
    scan.check_exports()?;
    Ok(scan.facts)
}

struct Scan<'a> {
    facts: Facts,
    /// Parameters and results of each type, as the ABI table writes them.
    types: Vec<(Vec<ValType>, Vec<ValType>)>,
    /// The value of each global that is a constant `i32`.
    constants: Vec<Option<i32>>,
    exports: Vec<(&'a str, ExternalKind)>,
    mark: Mark,
    items: u64,
    targets: u64,
    has_memory: bool,
}

impl<'a> Scan<'a> {
    fn section(&mut self, payload: &Payload<'a>) -> Result<(), LoadError> {
        match payload {
            Payload::Version { encoding: Encoding::Component, .. } => {
                Err(LoadError::Invalid { at: 0, what: "a component, not a module".to_owned() })
            }
            Payload::TypeSection(section) => self.types(section),
            Payload::ImportSection(section) => self.imports(section),
            Payload::FunctionSection(section) => at_most(FUNCTIONS, section.count().into()),
            Payload::TableSection(section) => Self::tables(section),
            Payload::MemorySection(section) => {
                at_most(MEMORIES, section.count().into())?;
                section.clone().into_iter().try_for_each(|memory| self.memory(&memory.map_err(invalid)?))
            }
            Payload::GlobalSection(section) => self.globals(section),
            Payload::ExportSection(section) => {
                at_most(EXPORTS, section.count().into())?;
                for export in section.clone() {
                    let export = export.map_err(invalid)?;
                    self.exports.push((export.name, export.kind));
                    if export.name == weir_abi::EXPORT_ABI {
                        self.mark = match export.kind {
                            ExternalKind::Func => Mark::Function(export.index),
                            ExternalKind::Global => {
                                Mark::Read(self.constants.get(export.index as usize).copied().flatten())
                            }
                            _ => Mark::Read(None),
                        };
                    }
                }
                Ok(())
            }
            Payload::StartSection { .. } => Err(LoadError::StartSection),
            Payload::ElementSection(section) => self.elements(section),
            Payload::DataCountSection { count, .. } => at_most(DATA, (*count).into()),
            Payload::DataSection(section) => {
                at_most(DATA, section.count().into())?;
                section.clone().into_iter().try_for_each(|data| match data.map_err(invalid)?.kind {
                    DataKind::Active { offset_expr, .. } => check_constant(&offset_expr),
                    DataKind::Passive => Ok(()),
                })
            }
            Payload::CodeSectionStart { count, .. } => at_most(FUNCTIONS, (*count).into()),
            Payload::CustomSection(section) => {
                if let wasmparser::KnownCustom::Name(names) = section.as_known() {
                    self.facts.names = Names::read(names, section.data().len());
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn types(&mut self, section: &wasmparser::TypeSectionReader<'a>) -> Result<(), LoadError> {
        at_most(TYPES, section.count().into())?;
        for group in section.clone() {
            for ty in group.map_err(invalid)?.types() {
                let CompositeInnerType::Func(function) = &ty.composite_type.inner else {
                    return Err(LoadError::Invalid { at: 0, what: "a type that is no function type".to_owned() });
                };
                at_most(TYPES, self.types.len() as u64 + 1)?;
                at_most(PARAMETERS, function.params().len().max(function.results().len()) as u64)?;
                self.types.push((function.params().to_vec(), function.results().to_vec()));
            }
        }
        Ok(())
    }

    fn imports(&mut self, section: &wasmparser::ImportSectionReader<'a>) -> Result<(), LoadError> {
        at_most(IMPORTS, section.count().into())?;
        for import in section.clone() {
            let import = import.map_err(invalid)?;
            let unknown = || LoadError::UnknownImport { import: format!("{}.{}", import.module, import.name) };
            let TypeRef::Func(type_index) = import.ty else { return Err(unknown()) };
            let call = match import.module {
                weir_abi::IMPORT_MODULE => Call::by_name(import.name).ok_or_else(unknown)?,
                _ => return Err(unknown()),
            };
            let (params, results) = call.signature();
            if self.types.get(type_index as usize).is_none_or(|ty| ty.0 != params || ty.1 != results) {
                return Err(LoadError::WrongType {
                    name: import.name.to_owned(),
                    expected: format!("{params:?} -> {results:?}"),
                });
            }
            self.facts.calls.insert(call);
            self.facts.imported_functions += 1;
        }
        Ok(())
    }

    fn tables(section: &wasmparser::TableSectionReader<'a>) -> Result<(), LoadError> {
        at_most(TABLES, section.count().into())?;
        section.clone().into_iter().try_for_each(|table| {
            let table = table.map_err(invalid)?;
            if let wasmparser::TableInit::Expr(init) = &table.init {
                check_constant(init)?;
            }
            at_most(TABLE, table.ty.initial)
        })
    }

    fn memory(&mut self, memory: &MemoryType) -> Result<(), LoadError> {
        let page = 1u64.checked_shl(memory.page_size_log2.unwrap_or(16)).unwrap_or(u64::MAX);
        self.facts.memory = Bytes(memory.initial.saturating_mul(page));
        self.has_memory = true;
        Ok(())
    }

    fn globals(&mut self, section: &wasmparser::GlobalSectionReader<'a>) -> Result<(), LoadError> {
        at_most(GLOBALS, section.count().into())?;
        for (index, global) in (0u32..).zip(section.clone()) {
            let global = global.map_err(invalid)?;
            check_constant(&global.init_expr)?;
            self.facts.globals += 1;
            let constant = !global.ty.mutable && global.ty.content_type == ValType::I32;
            let value = constant.then(|| only_constant(global.init_expr.get_operators_reader())).flatten();
            self.constants.push(value);
            if global.ty.mutable {
                self.facts.mutable_globals.push(index);
                if !matches!(global.ty.content_type, ValType::I32 | ValType::I64 | ValType::F32 | ValType::F64) {
                    self.facts.not_restorable = Some("has a mutable global that is a reference");
                }
            }
        }
        if MUTABLE_GLOBALS_MAX < self.facts.mutable_globals.len() {
            self.facts.not_restorable = Some("has more than 16 mutable globals");
            self.facts.mutable_globals.clear();
        }
        Ok(())
    }

    fn elements(&mut self, section: &wasmparser::ElementSectionReader<'a>) -> Result<(), LoadError> {
        at_most(SEGMENTS, section.count().into())?;
        for segment in section.clone() {
            let segment = segment.map_err(invalid)?;
            if let ElementKind::Active { offset_expr, .. } = &segment.kind {
                check_constant(offset_expr)?;
            }
            self.items += match &segment.items {
                ElementItems::Functions(items) => u64::from(items.count()),
                ElementItems::Expressions(_, items) => u64::from(items.count()),
            };
            at_most(ITEMS, self.items)?;
            if let ElementItems::Expressions(_, items) = segment.items {
                items.into_iter().try_for_each(|item| check_constant(&item.map_err(invalid)?))?;
            }
        }
        Ok(())
    }

    /// Reads the version where the function that states it is this one: nothing needs to run to know it.
    fn mark<T>(&mut self, function: &FuncToValidate<T>, body: &FunctionBody<'a>) -> Result<(), LoadError> {
        if matches!(self.mark, Mark::Function(index) if index == function.index) {
            let plain =
                self.types.get(function.ty as usize).is_some_and(|ty| ty.0.is_empty() && ty.1 == [ValType::I32])
                    && body.get_locals_reader().map_err(invalid)?.get_count() == 0;
            let value = plain.then(|| body.get_operators_reader().ok().and_then(only_constant)).flatten();
            self.mark = Mark::Read(value);
        }
        Ok(())
    }

    fn body<T: wasmparser::WasmModuleResources>(
        &mut self,
        function: &mut wasmparser::FuncValidator<T>,
        body: &FunctionBody<'a>,
    ) -> Result<(), LoadError> {
        let mut reader = body.get_binary_reader();
        function.read_locals(&mut reader).map_err(invalid)?;
        at_most(LOCALS, function.len_locals().into())?;
        let mut operators = body.get_operators_reader().map_err(invalid)?;
        while !operators.eof() {
            let (operator, at) = operators.read_with_offset().map_err(invalid)?;
            if let Operator::BrTable { targets } = &operator {
                self.targets += u64::from(targets.len());
                at_most(TARGETS, targets.len().into())?;
                at_most(TARGETS_TOTAL, self.targets)?;
            }
            function.op(at, &operator).map_err(invalid)?;
            at_most(NESTING, function.control_stack_height().into())?;
            at_most(HEIGHT, function.operand_stack_height().into())?;
            if let Some(why) = leaves_a_trace(&operator) {
                self.facts.not_restorable = Some(why);
            }
        }
        function.finish(operators.original_position()).map_err(invalid)
    }

    fn check_exports(&self) -> Result<(), LoadError> {
        if !self.has_memory {
            return Err(LoadError::MissingExport { name: weir_abi::EXPORT_MEMORY });
        }
        for (name, kind) in
            [(weir_abi::EXPORT_MEMORY, ExternalKind::Memory), (weir_abi::EXPORT_BUFFER, ExternalKind::Func)]
        {
            if !self.exports.contains(&(name, kind)) {
                return Err(LoadError::MissingExport { name });
            }
        }
        match self.mark {
            Mark::Missing => return Err(LoadError::MissingExport { name: weir_abi::EXPORT_ABI }),
            Mark::Read(Some(weir_abi::VERSION)) => {}
            Mark::Read(Some(found)) => return Err(LoadError::AbiVersion { found }),
            // Of an imported function there is no body.
            Mark::Read(None) | Mark::Function(_) => return Err(LoadError::AbiNotConstant),
        }
        let handlers = [weir_abi::EXPORT_EVENT, weir_abi::EXPORT_INTERVAL];
        match handlers.iter().any(|name| self.exports.contains(&(name, ExternalKind::Func))) {
            true => Ok(()),
            false => Err(LoadError::MissingExport { name: weir_abi::EXPORT_EVENT }),
        }
    }
}

/// The number, where the operators are one `i32.const` and an end.
fn only_constant(operators: OperatorsReader<'_>) -> Option<i32> {
    let mut operators = operators.into_iter();
    let mut next = || operators.next()?.ok();
    match (next()?, next()?, next()) {
        (Operator::I32Const { value }, Operator::End, None) => Some(value),
        (Operator::I32Const { value }, Operator::Return, Some(Operator::End)) => Some(value),
        _ => None,
    }
}

/// Operators whose effect lies neither in memory nor in a global. Growing memory shows in its size, so it is not here.
fn leaves_a_trace(operator: &Operator<'_>) -> Option<&'static str> {
    match operator {
        Operator::TableSet { .. }
        | Operator::TableFill { .. }
        | Operator::TableCopy { .. }
        | Operator::TableInit { .. }
        | Operator::TableGrow { .. } => Some("writes a table"),
        Operator::DataDrop { .. } | Operator::ElemDrop { .. } => Some("drops a segment"),
        _ => None,
    }
}

fn check_locals(body: &FunctionBody<'_>) -> Result<(), LoadError> {
    let locals = body.get_locals_reader().map_err(invalid)?;
    at_most(LOCAL_GROUPS, locals.get_count().into())?;
    let mut sum = 0;
    for group in locals {
        sum += u64::from(group.map_err(invalid)?.0);
        at_most(LOCALS, sum)?;
    }
    Ok(())
}

fn check_constant(expression: &ConstExpr<'_>) -> Result<(), LoadError> {
    let mut count = 0;
    for operator in expression.get_operators_reader() {
        operator.map_err(invalid)?;
        count += 1;
        at_most(CONST_OPERATORS, count)?;
    }
    Ok(())
}
