//! Types that can be told without a host: what fails, or never holds, on every host is said when it is written.

use cel::{
    IdedExpr,
    common::ast::{Expr, LiteralValue, operators},
};

use super::{functions, uses::children};

/// The node at fault, and why.
type Fault = (u64, String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Bool,
    Number,
    Text,
    List,
    Map,
    /// Known on a host at the earliest.
    Any,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::List => "a list",
            Self::Map => "a map",
            Self::Any => "anything",
        }
    }
}

/// # Errors
/// The first place where types can never fit.
pub(super) fn check(tree: &IdedExpr) -> Result<(), Fault> {
    truth(tree)
}

/// `node` must be true or false.
fn truth(node: &IdedExpr) -> Result<(), Fault> {
    match type_of(node)? {
        Type::Bool | Type::Any => Ok(()),
        other => {
            let what = other.name();
            Err((node.id, format!("this is {what} where true or false is needed: compare it with something")))
        }
    }
}

fn type_of(node: &IdedExpr) -> Result<Type, Fault> {
    match &node.expr {
        Expr::Literal(literal) => Ok(match literal {
            LiteralValue::Boolean(_) => Type::Bool,
            LiteralValue::Int(_) | LiteralValue::UInt(_) | LiteralValue::Double(_) => Type::Number,
            LiteralValue::String(_) => Type::Text,
            _ => Type::Any,
        }),
        Expr::Ident(name) => Ok(match name.as_str() {
            "agent" | "check" | "status" | "output" => Type::Text,
            "facts" | "labels" | "vars" | "metrics" => Type::Map,
            "groups" => Type::List,
            _ => Type::Any,
        }),
        Expr::Select(select) => {
            wanted(&select.operand, Type::Map, "has no fields")?;
            Ok(if select.test { Type::Bool } else { entry(&select.operand) })
        }
        Expr::Call(call) => called(node, &call.func_name, call.target.as_deref(), &call.args),
        Expr::List(_) => inside(node, Type::List),
        Expr::Map(_) => inside(node, Type::Map),
        // What a macro makes of each element is known with the elements.
        Expr::Comprehension(_) | Expr::Struct(_) | Expr::Unspecified => inside(node, Type::Any),
    }
}

fn inside(node: &IdedExpr, found: Type) -> Result<Type, Fault> {
    for child in children(node) {
        type_of(child)?;
    }
    Ok(found)
}

/// What stands in an entry of a map.
fn entry(map: &IdedExpr) -> Type {
    match &map.expr {
        Expr::Ident(name) if name == "labels" => Type::Text,
        Expr::Ident(name) if name == "metrics" => Type::Number,
        _ => Type::Any,
    }
}

fn wanted(node: &IdedExpr, wanted: Type, why: &str) -> Result<Type, Fault> {
    match type_of(node)? {
        found if found == wanted || found == Type::Any => Ok(found),
        found => Err((node.id, format!("{} {why}", found.name()))),
    }
}

fn called(node: &IdedExpr, name: &str, target: Option<&IdedExpr>, args: &[IdedExpr]) -> Result<Type, Fault> {
    match (name, args) {
        (operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT, args) => {
            args.iter().try_for_each(truth)?;
            Ok(Type::Bool)
        }
        (operators::CONDITIONAL, [condition, yes, no]) => {
            truth(condition)?;
            let (yes, no) = (type_of(yes)?, type_of(no)?);
            Ok(if yes == no { yes } else { Type::Any })
        }
        (operators::EQUALS | operators::NOT_EQUALS, [left, right]) => {
            same(node, left, right, "are never equal")?;
            Ok(Type::Bool)
        }
        (
            operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS,
            [left, right],
        ) => {
            same(node, left, right, "cannot be compared")?;
            Ok(Type::Bool)
        }
        (operators::ADD, [left, right]) => same(node, left, right, "cannot be added"),
        (
            operators::SUBSTRACT
            | operators::MULTIPLY
            | operators::DIVIDE
            | operators::MODULO
            | operators::NEGATE,
            args,
        ) => {
            for arg in args {
                wanted(arg, Type::Number, "cannot be calculated with")?;
            }
            Ok(Type::Number)
        }
        (operators::IN, [element, list]) => {
            type_of(element)?;
            match type_of(list)? {
                Type::List | Type::Map | Type::Any => Ok(Type::Bool),
                other => Err((list.id, format!("{} holds nothing that could be \"in\" it", other.name()))),
            }
        }
        (operators::INDEX, [map, key]) => {
            type_of(key)?;
            type_of(map)?;
            Ok(entry(map))
        }
        ("contains" | "startsWith" | "endsWith" | "matches", args) => {
            if let Some(target) = target {
                wanted(target, Type::Text, "is no text to look into")?;
            }
            args.iter().try_for_each(|arg| type_of(arg).map(drop))?;
            Ok(Type::Bool)
        }
        (name, _) => inside(
            node,
            match name {
                "size" | "int" | "double" => Type::Number,
                "string" => Type::Text,
                "absent" | "changed" | "consecutive" => Type::Bool,
                window if functions::WINDOWS.contains(&window) => Type::Number,
                _ => Type::Any,
            },
        ),
    }
}

fn same(node: &IdedExpr, left: &IdedExpr, right: &IdedExpr, why: &str) -> Result<Type, Fault> {
    let (l, r) = (type_of(left)?, type_of(right)?);
    if l == r || r == Type::Any {
        return Ok(l);
    }
    if l == Type::Any {
        return Ok(r);
    }
    let hint = match (l, r) {
        (Type::Text, Type::Number) | (Type::Number, Type::Text) => {
            ": write the number in quotes, or make the text a number with double(…)"
        }
        _ => "",
    };
    Err((node.id, format!("{} and {} {why}{hint}", l.name(), r.name())))
}
