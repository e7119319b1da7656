//! The statuses that cloudia answers with, and what each means for caches and for the connection.

use super::request::Fault;
use crate::limits::MAX_AGE_MISSING;

macro_rules! statuses {
    ($($name:ident = $code:literal $reason:literal,)*) => {
        /// A status code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Status {
            $(
                #[doc = concat!(stringify!($code), " ", $reason)]
                $name,
            )*
        }

        impl Status {
            /// All of them, in the order of [`Status::index`].
            pub const ALL: &'static [Status] = &[$(Status::$name,)*];

            /// The three digits.
            pub const fn code(self) -> u16 {
                match self { $(Status::$name => $code,)* }
            }

            /// `HTTP/1.1 `, the code, the reason phrase, CRLF.
            pub const fn line(self) -> &'static str {
                match self { $(Status::$name => concat!("HTTP/1.1 ", stringify!($code), " ", $reason, "\r\n"),)* }
            }

            /// The body of an error: one line.
            pub const fn text(self) -> &'static str {
                match self { $(Status::$name => concat!(stringify!($code), " ", $reason, "\n"),)* }
            }
        }
    };
}

statuses! {
    Ok = 200 "OK",
    NoContent = 204 "No Content",
    PartialContent = 206 "Partial Content",
    MovedPermanently = 301 "Moved Permanently",
    NotModified = 304 "Not Modified",
    BadRequest = 400 "Bad Request",
    Unauthorized = 401 "Unauthorized",
    Forbidden = 403 "Forbidden",
    NotFound = 404 "Not Found",
    MethodNotAllowed = 405 "Method Not Allowed",
    RequestTimeout = 408 "Request Timeout",
    PreconditionFailed = 412 "Precondition Failed",
    UriTooLong = 414 "URI Too Long",
    RangeNotSatisfiable = 416 "Range Not Satisfiable",
    HeaderFieldsTooLarge = 431 "Request Header Fields Too Large",
    NotImplemented = 501 "Not Implemented",
    ServiceUnavailable = 503 "Service Unavailable",
    VersionNotSupported = 505 "HTTP Version Not Supported",
}

impl Status {
    /// The position in [`Status::ALL`], for tables.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// After this answer the connection closes: what follows cannot be trusted to be where it seems.
    pub const fn closes(self) -> bool {
        matches!(
            self,
            Status::BadRequest
                | Status::RequestTimeout
                | Status::UriTooLong
                | Status::HeaderFieldsTooLarge
                | Status::NotImplemented
                | Status::ServiceUnavailable
                | Status::VersionNotSupported
        )
    }

    /// How long an answer without an entry may be kept, in seconds; None: not at all.
    pub const fn max_age(self) -> Option<u32> {
        match self {
            Status::NotFound | Status::MovedPermanently => Some(MAX_AGE_MISSING),
            _ => None,
        }
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Malformed => Status::BadRequest,
            Fault::TargetTooLong => Status::UriTooLong,
            Fault::HeadTooLarge => Status::HeaderFieldsTooLarge,
            Fault::UnknownMethod => Status::NotImplemented,
            Fault::Version => Status::VersionNotSupported,
        }
    }
}
