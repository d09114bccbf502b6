//! Layer trees and what containers write above them.
