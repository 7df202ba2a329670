//! The ring over epoll, by itself.
