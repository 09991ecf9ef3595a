"""The papers' ideas made visible, such as gridding and how many weights of an atrous kernel stay valid."""
