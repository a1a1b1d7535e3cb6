//! [`Kind`]: the kinds of stored objects, defined by one table. The SQL of `loggia-store` and the
//! report of `loggia check` are made from it.

/// Makes the type and its methods from the table, so that no kind can miss a column.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $name:literal, [$one:literal, $many:literal], stays: $stays:literal;)*) => {
        /// The kinds of objects.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// All kinds, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// Returns the name of the kind: `object` in OpenAI's API, `type` in Anthropic's.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// Returns what people call one object and several objects of this kind.
            pub fn nouns(self) -> (&'static str, &'static str) {
                match self { $(Self::$kind => ($one, $many),)* }
            }

            /// Returns whether such an object is kept until it is deleted. Objects of other kinds
            /// are also deleted when they are old, or to make room for new ones.
            pub fn stays(self) -> bool {
                match self { $(Self::$kind => $stays,)* }
            }
        }
    };
}

kinds! {
    /// A chat completion whose request had `store: true`. Its items are the messages of the
    /// request.
    ChatCompletion: "chat.completion", ["chat completion", "chat completions"], stays: false;
    /// A conversation.
    Conversation: "conversation", ["conversation", "conversations"], stays: false;
    /// A response.
    Response: "response", ["response", "responses"], stays: false;
    /// A message of a thread of Anthropic's API.
    Message: "message", ["message of a thread", "messages of threads"], stays: false;
    /// A file. Its content is in [`Blobs`](super::Blobs).
    File: "file", ["file", "files"], stays: true;
    /// An upload of a file in parts. Its items are the parts.
    Upload: "upload", ["upload", "uploads"], stays: true;
    /// A batch of requests. Its items are the lines that are done.
    Batch: "batch", ["batch", "batches"], stays: true;
    /// A batch of requests of Anthropic's API.
    MessageBatch: "message_batch", ["batch of messages", "batches of messages"], stays: true;
    /// The requests or the results of a [`Kind::MessageBatch`]. Its content is in
    /// [`Blobs`](super::Blobs).
    BatchContent: "message_batch.content", ["content of a batch", "contents of batches"], stays: true;
    /// A vector store.
    VectorStore: "vector_store", ["vector store", "vector stores"], stays: true;
    /// A file of a vector store. It has [chunks](super::Change::Chunks).
    VectorStoreFile: "vector_store.file", ["file of a vector store", "files of vector stores"], stays: true;
    /// Files that were added to a vector store together.
    VectorStoreFileBatch: "vector_store.file_batch", ["batch of added files", "batches of added files"], stays: true;
    /// A URL that is called when an object of its owner has ended.
    WebhookEndpoint: "webhook_endpoint", ["webhook endpoint", "webhook endpoints"], stays: true;
    /// An event that waits to be sent to a webhook endpoint.
    WebhookDelivery: "webhook_delivery", ["waiting webhook event", "waiting webhook events"], stays: true;
}

impl Kind {
    /// Returns whether the items of such an object are found by their ids alone.
    pub fn has_findable_items(self) -> bool {
        matches!(self, Self::Conversation | Self::Response)
    }
}
