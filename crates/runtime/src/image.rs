//! Images: references, layers and what is made of them for a container.
