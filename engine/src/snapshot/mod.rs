//! Layer trees and what containers write above them.

pub mod tar;
