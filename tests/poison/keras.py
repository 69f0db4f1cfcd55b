raise ImportError("tensorflow was imported before the options were checked")
