//! What a subscriber can be asked for: the typed form of an event's action and parameters.

use std::fmt;

use bson::{Bson, Document};
use serde::{
    Serialize,
    de::{
        DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer,
        VariantAccess, Visitor, value::StrDeserializer,
    },
    forward_to_deserialize_any,
};

use crate::{
    encoding::narrow_integers,
    error::{Error, Result},
    event::Event,
};

/// The actions of a subscriber.
///
/// An enum that serde can read and write is one: each variant is an action, its fields are the
/// parameters. An [`Event`] is one as it stands, for who hears all.
///
/// ```
/// use rocketjob_core::Action;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// #[serde(rename_all = "snake_case")]
/// enum CacheAction {
///     Clear,
///     Resize { megabytes: u32 },
/// }
///
/// let (name, parameters) = CacheAction::Resize { megabytes: 64 }.to_parts().unwrap();
/// assert_eq!(name, "resize");
/// assert_eq!(parameters, bson::doc! { "megabytes": 64 });
/// ```
pub trait Action: Sized + Send + 'static {
    /// What `event` asks for.
    ///
    /// # Errors
    /// [`ActionError::Unknown`] when there is no such action, [`ActionError::Bad`] when its
    /// parameters do not fit.
    fn from_event(event: &Event) -> Result<Self, ActionError>;

    /// The name of the action, and its parameters.
    ///
    /// # Errors
    /// [`Error::Configuration`] when serde makes something else of it.
    fn to_parts(&self) -> Result<(String, Document)>;
}

/// Why an event is no action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// The subscriber does not know it.
    #[error("{0}")]
    Unknown(String),
    /// The parameters do not fit the action.
    #[error("{0}")]
    Bad(String),
}

impl serde::de::Error for ActionError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Bad(message.to_string())
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let known = expected.join("`, `");
        Self::Unknown(format!(
            "there is no action `{variant}`: there are `{known}`"
        ))
    }
}

impl<T: Serialize + DeserializeOwned + Send + 'static> Action for T {
    fn from_event(event: &Event) -> Result<Self, ActionError> {
        T::deserialize(Asked(event))
    }

    fn to_parts(&self) -> Result<(String, Document)> {
        let unusable = |reason: &str| {
            Error::configuration(format!(
                "`{}` is no action: {reason}; use an enum whose variants have named fields or none",
                std::any::type_name::<T>()
            ))
        };
        let mut value =
            bson::serialize_to_bson(self).map_err(|error| unusable(&error.to_string()))?;
        narrow_integers(&mut value);
        match value {
            Bson::String(action) => Ok((action, Document::new())),
            Bson::Document(document) => match document.into_iter().collect::<Vec<_>>().as_slice() {
                [(action, Bson::Document(parameters))] => Ok((action.clone(), parameters.clone())),
                _ => Err(unusable("its parameters are no document")),
            },
            _ => Err(unusable("it has no name")),
        }
    }
}

impl Action for Event {
    fn from_event(event: &Event) -> Result<Self, ActionError> {
        Ok(event.clone())
    }

    fn to_parts(&self) -> Result<(String, Document)> {
        let action = self.action.clone();
        let action = action.ok_or_else(|| Error::configuration("the event has no action"))?;
        Ok((action, self.parameters.clone()))
    }
}

/// Shows serde an event as an enum.
struct Asked<'e>(&'e Event);

impl<'de> Deserializer<'de> for Asked<'_> {
    type Error = ActionError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ActionError> {
        visitor.visit_enum(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}

impl<'de, 'e> EnumAccess<'de> for Asked<'e> {
    type Error = ActionError;
    type Variant = Parameters<'e>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), ActionError> {
        let action = self.0.action.as_deref().unwrap_or_default();
        let name: StrDeserializer<'_, ActionError> = action.into_deserializer();
        Ok((seed.deserialize(name)?, Parameters(self.0)))
    }
}

/// Shows serde the parameters of an event as the fields of a variant.
struct Parameters<'e>(&'e Event);

impl Parameters<'_> {
    fn value(&self) -> bson::Deserializer {
        bson::Deserializer::new(Bson::Document(self.0.parameters.clone()))
    }

    fn read<T>(
        &self,
        read: impl FnOnce(bson::Deserializer) -> Result<T, bson::error::Error>,
    ) -> Result<T, ActionError> {
        read(self.value()).map_err(|error| {
            let action = self.0.action.as_deref().unwrap_or_default();
            ActionError::Bad(format!("the parameters of `{action}` do not fit: {error}"))
        })
    }
}

impl<'de> VariantAccess<'de> for Parameters<'_> {
    type Error = ActionError;

    /// Whatever comes with an action that needs nothing is none of its business.
    fn unit_variant(self) -> Result<(), ActionError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, ActionError> {
        self.read(|value| seed.deserialize(value))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ActionError> {
        self.read(|value| value.deserialize_map(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ActionError> {
        self.read(|value| value.deserialize_map(visitor))
    }
}

#[cfg(test)]
mod tests {
    use bson::{doc, oid::ObjectId};
    use jiff::Timestamp;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Thing {
        Refresh,
        Set {
            rate: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            host: Option<String>,
        },
    }

    fn event(action: &str, parameters: Document) -> Event {
        Event {
            id: ObjectId::new(),
            name: "Thing".into(),
            action: Some(action.into()),
            parameters,
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn an_action_comes_back_from_its_event() {
        let set = |host: Option<&str>| Thing::Set {
            rate: 5,
            host: host.map(Into::into),
        };
        for thing in [Thing::Refresh, set(None), set(Some("a"))] {
            let (action, parameters) = thing.to_parts().unwrap();
            let read = Thing::from_event(&event(&action, parameters)).unwrap();
            assert_eq!(read, thing);
        }
        assert_eq!(set(None).to_parts().unwrap().1, doc! { "rate": 5_i32 });
    }

    #[test]
    fn an_unknown_action_and_bad_parameters_are_told_apart() {
        let read = |action, parameters| Thing::from_event(&event(action, parameters));
        let Err(ActionError::Unknown(text)) = read("explode", doc! {}) else {
            panic!("is unknown");
        };
        assert_eq!(
            text,
            "there is no action `explode`: there are `refresh`, `set`"
        );
        for parameters in [doc! {}, doc! { "rate": "fast" }, doc! { "rate": -1 }] {
            assert!(matches!(read("set", parameters), Err(ActionError::Bad(_))));
        }
        let more = doc! { "rate": 1, "colour": "red", "host": null };
        assert!(read("set", more).is_ok());
        assert_eq!(read("refresh", doc! { "any": 1 }), Ok(Thing::Refresh));
    }
}
